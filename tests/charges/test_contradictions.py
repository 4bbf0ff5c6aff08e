"""The bank knows a charge's key with another amount: the charge ends if no money was taken, else a person must look."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from flask import Flask

from app.charges import recovery
from app.charges.states import CANCELED, DECLINED, IN_DOUBT
from app.database import db
from app.gateways.base import Card
from app.gateways.sandbox.cards import CARDS, Behaviour
from app.leases import RARELY
from tests.charges.test_recovery import CARD, abandoned, status
from tests.factories import MUG
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
