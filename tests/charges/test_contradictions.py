"""The bank knows a charge's key with another amount: the charge ends if no money was taken, else a person must look."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from flask import Flask

from app.charges import audit, recovery
from app.charges.rows import ChargeSnapshot
from app.charges.states import CANCELED, DECLINED, IN_DOUBT
from app.database import db
from app.gateways.base import Card, Outcome, RefundRequest
from app.gateways.sandbox.cards import CARDS, Behaviour
from app.leases import RARELY
from tests.charges.test_recovery import CARD, abandoned, status
from tests.factories import MUG, SHOP_ID
from tests.recovery import recover, recover_and_audit, run_audit
from tests.shops import Shop


def test_a_key_that_took_another_amount_waits_visibly_for_a_person(app: Flask, shop: Shop) -> None:
    """The order keeps its goods, because money was taken. The bank is asked once an hour."""
    charge = abandoned(shop.gateway)
    shop.gateway.charge(replace(charge.payment, amount=1), CARD, 3.0)
    for _ in range(3):
        recover(shop)
    report = run_audit(shop)
    assert (status(shop, charge), report.broken) == (IN_DOUBT, {})
    assert any(recovery.CONTRADICTED in line for line in report.open)
    assert 'payonce_attention{kind="charge",status="in_doubt"} 1.0' in shop.shopper().client.get("/metrics").text
    with shop.app.app_context():
        ask_at = db.session.execute(db.select(recovery.charges.c.ask_at)).scalar_one()
    assert (ask_at - datetime.now(UTC)).total_seconds() > RARELY - 60


@pytest.mark.parametrize("behaviour", [Behaviour.ASKS_SHOPPER, Behaviour.DECLINES])
def test_a_key_that_took_nothing_ends_although_the_bank_knows_another_amount(
    app: Flask, shop: Shop, behaviour: Behaviour
) -> None:
    stock = shop.stock(MUG)
    charge = abandoned(shop.gateway)
    card = next(each.number for each in CARDS if each.behaviour is behaviour)
    shop.gateway.charge(replace(charge.payment, amount=1), Card(card, "12/49", "123"), 3.0)
    recover(shop)
    assert status(shop, charge) in {CANCELED, DECLINED}
    assert shop.stock(MUG) == stock
    recover_and_audit(shop)


@pytest.fixture
def contradicted(app: Flask, shop: Shop) -> ChargeSnapshot:
    """Return a charge under whose key the bank took another amount."""
    charge = abandoned(shop.gateway)
    shop.gateway.charge(replace(charge.payment, amount=5), CARD, 3.0)
    recover(shop)
    return charge


def refund_there(shop: Shop, charge: ChargeSnapshot, amount: int) -> None:
    """Refund at the bank, without the shop."""
    payment = replace(charge.payment, amount=5)
    assert shop.gateway.refund(RefundRequest(uuid4().hex, amount, payment), 3.0).outcome is Outcome.SUCCEEDED


def look(shop: Shop, charge: ChargeSnapshot) -> tuple[int, str]:
    result = shop.app.test_cli_runner().invoke(args=["reconcile", "--look", charge.receipt_id])
    return result.exit_code, result.output


def test_a_look_ends_it_once_all_of_the_money_was_refunded_there(shop: Shop, contradicted: ChargeSnapshot) -> None:
    stock = shop.stock(MUG)
    for given_back, held in ((0, "€0.05"), (2, "€0.03")):
        if given_back:
            refund_there(shop, contradicted, given_back)
        code, said = look(shop, contradicted)
        assert (code, f"the gateway holds {held}" in said, "refund it there" in said) == (1, True, True)
        assert (status(shop, contradicted), shop.stock(MUG)) == (IN_DOUBT, stock)
    refund_there(shop, contradicted, 3)
    for _ in range(2):
        assert look(shop, contradicted)[0] == 0
        assert (status(shop, contradicted), shop.stock(MUG)) == (CANCELED, stock + 1)
    recover_and_audit(shop)


def test_a_look_ends_nothing_while_the_statement_does_not_show_the_money(
    shop: Shop, contradicted: ChargeSnapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(shop.gateway), "statement", lambda self: iter(()))
    code, said = look(shop, contradicted)
    assert (code, "does not show yet" in said, status(shop, contradicted)) == (1, True, IN_DOUBT)


def test_money_that_is_there_again_breaks_the_audit(shop: Shop, contradicted: ChargeSnapshot) -> None:
    """The books say that nothing is left of it; then the bank's statement says otherwise."""
    refund_there(shop, contradicted, 5)
    assert look(shop, contradicted)[0] == 0
    entries = [entry for entry in shop.statement() if entry.kind == "charge"]
    with shop.app.app_context():
        assert 4 in audit.audit(entries, overdue=audit.GRACE, shop_id=SHOP_ID).broken
