"""Repairs that meet a race, a lost COMMIT, or an account that is gone."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch
from uuid import UUID

import httpx
import pytest
from flask import Flask
from sqlalchemy.engine import Connection

from app import create_app, database
from app.charges import protocol, reconcile, refunds
from app.charges.rows import ChargeSnapshot
from app.database import Unreachable
from app.gateways.base import Answer, Outcome
from app.gateways.sandbox.client import SandboxGateway
from app.settings import Settings
from tests.charges.test_audit import EditedStatement, broken, command
from tests.factories import API_KEY, ASKS_SHOPPER, BOWL, DECLINES, MUG, SECRET, SHOP_ID, order, purchase
from tests.gateways.bank import at_once, card, new_payment, new_refund
from tests.recovery import recover_and_audit
from tests.shops import BANK, Shop

GONE = "UPDATE charge SET account = 'test', gateway = 'stripe' WHERE id = :id"


@pytest.fixture
def lost(shop: Shop, app: Flask) -> list[reconcile.Entry]:
    """A payment and a part of it that was refunded, at our account, which the books don't know."""
    payment = new_payment()
    shop.gateway.charge(payment, card(), 5)
    shop.gateway.refund(new_refund(payment, 400), 5)
    return reconcile.entries(shop.gateway, SHOP_ID)


@contextmanager
def first_commit_lost() -> Iterator[None]:
    """Inside the block, the first COMMIT works, but its answer is lost. It stands for a connection that breaks."""
    commit, lost = database._commit, []

    def commit_and_break(connection: Connection, *args: Any) -> None:
        commit(connection, *args)
        if not lost:
            lost.append(True)
            raise Unreachable("the answer to COMMIT was lost")

    with patch.object(database, "_commit", commit_and_break):
        yield
    assert lost


def books(shop: Shop) -> tuple[int, ...]:
    tables = ("orders", "charge", "charge_line", "refund", "ledger_entry")
    return tuple(shop.value(f"SELECT count(*) FROM {table}") for table in tables)


def test_each_entry_is_adopted_once_by_simultaneous_commands(
    shop: Shop, app: Flask, lost: list[reconcile.Entry]
) -> None:
    def adopt(entry: reconcile.Entry) -> bool:
        with app.app_context():
            return reconcile.adopt(entry, shop.gateway)

    for entry in lost:
        answers = at_once(*[lambda: adopt(entry)] * 8)  # noqa: B023
        assert set(map(type, answers)) <= {bool, reconcile.Refused}, answers
        assert True in answers
    assert books(shop) == (1, 1, 1, 1, 4)
    assert broken(shop) == {}


def test_an_adoption_whose_commit_is_lost_is_confirmed_and_not_repeated(
    shop: Shop, lost: list[reconcile.Entry]
) -> None:
    for entry in lost:
        with first_commit_lost():
            assert reconcile.adopt(entry, shop.gateway)
    assert books(shop) == (1, 1, 1, 1, 4)
    assert broken(shop) == {}


def test_money_for_a_charge_that_ended_without_it_becomes_a_stray_payment(shop: Shop, app: Flask) -> None:
    """As after a failover that lost the record of a payment: the shop says "not sent", and the bank took the money."""
    charge = protocol.claim(purchase(order()), shop.gateway, 3.0)
    protocol.record(charge, Answer(Outcome.CANCELED, reason="not_sent"))
    shop.gateway.charge(charge.payment, card(), 5)
    assert broken(shop) == {4: [f"charge {charge.id} {charge.key}"]}
    key = str(charge.key)
    code, printed = flask(app, "--adopt", key)
    assert (code, printed.splitlines()[-1]) == (0, f"{key}: charge of €24.00 adopted")
    assert flask(app, "--adopt", key) == (0, f"{key}: charge of €24.00 is in the books already\n")
    assert flask(app, "--refund", key) == (3, f"{key}: refund of €24.00: processing\n")
    recover_and_audit(shop)
    assert [(entry.kind, entry.amount) for entry in shop.gateway.statement()] == [("charge", 2400), ("refund", 2400)]


def test_another_amount_than_the_books_know_is_not_adopted(shop: Shop, app: Flask) -> None:
    charge = protocol.claim(purchase(order()), shop.gateway, 3.0)
    protocol.record(charge, Answer(Outcome.CANCELED, reason="not_sent"))
    shop.gateway.charge(replace(charge.payment, amount=1), card(), 5)
    code, printed = flask(app, "--adopt", str(charge.key))
    assert (code, "another amount than the books know" in printed) == (1, True)


def test_an_entry_of_an_earlier_version_is_adopted_only_by_choice(shop: Shop, app: Flask) -> None:
    """It bears no SHOP_ID, so it could be another shop's: nothing lists it as ours."""
    payment = new_payment()
    bank = httpx.WSGITransport(app=shop.bank)
    SandboxGateway(BANK, API_KEY, transport=bank).charge(payment, card(), 5)
    key = str(UUID(payment.key))
    assert flask(app) == (0, "Only at the gateway: 0\n")
    assert command(shop)[1]["foreign"] == [f"charge {key}"]
    assert flask(app, "--adopt", key) == (0, f"{key}: charge of €24.00 adopted\n")
    code, report = command(shop)
    assert (code, report["foreign"], report["adopted"]) == (0, [], [f"charge 1 {key}"])


def flask(app: Flask, *words: str) -> tuple[int, str]:
    result = app.test_cli_runner().invoke(args=["reconcile", *words])
    return result.exit_code, result.output


@pytest.fixture
def gone(shop: Shop, app: Flask) -> ChargeSnapshot:
    """An open charge of an account that is not configured any more."""
    charge = protocol.pay(purchase(order({MUG: 2}), ASKS_SHOPPER), shop.gateway, 3.0)
    shop.execute(GONE, id=charge.id)
    return charge._replace(gateway="stripe", account="test")


def test_an_open_charge_of_an_account_that_is_gone_is_shown_and_can_be_closed(
    shop: Shop, app: Flask, gone: ChargeSnapshot
) -> None:
    words = f"charge {gone.id} requires_action at stripe test, which is not configured; receipt {gone.receipt_id}"
    assert command(shop)[1]["open"] == [words]
    reason = "The test account took no money."
    for _ in range(2):
        assert flask(app, "--close", gone.receipt_id, "--reason", reason) == (0, f"{gone.receipt_id}: closed\n")
    assert shop.rows("SELECT status, reason, note FROM charge") == [("canceled", "closed", f"closed: {reason}")]
    assert (shop.value("SELECT state FROM orders"), shop.stock(MUG)) == ("open", 200)
    code, report = command(shop)
    assert (code, report["open"]) == (0, [])
    page = shop.shopper().open(f"/receipts/{gone.receipt_id}")
    assert page.heading == "Nothing was charged"


def test_closing_with_a_lost_commit_is_confirmed(shop: Shop, gone: ChargeSnapshot) -> None:
    with first_commit_lost():
        reconcile.close(gone, shop.gateways, "none")  # type: ignore[arg-type]
    assert (shop.charges(), shop.stock(MUG)) == ({"canceled": 1}, 200)


def test_a_charge_that_can_be_asked_about_or_has_ended_is_not_closed(
    shop: Shop, app: Flask, gone: ChargeSnapshot
) -> None:
    asked = protocol.pay(purchase(order({BOWL: 1}), ASKS_SHOPPER), shop.gateway, 3.0)
    paid = protocol.pay(purchase(order({BOWL: 1})), shop.gateway, 3.0)
    declined = protocol.pay(purchase(order({BOWL: 1}), DECLINES), shop.gateway, 3.0)
    for charge in (paid, declined):
        shop.execute(GONE, id=charge.id)
    before = shop.charges()
    for words, why in (
        (["--close", asked.receipt_id, "--reason", "r"], "is configured"),
        (["--close", paid.receipt_id, "--reason", "r"], "it has ended already: succeeded"),
        (["--close", declined.receipt_id, "--reason", "r"], "it has ended already: declined"),
        (["--close", gone.receipt_id], "--reason is missing"),
        (["--close", gone.receipt_id, "--reason", " "], "--reason is missing"),
        (["--close", "no-such", "--reason", "r"], "no such receipt"), (["--close", "", "--reason", "r"], "no such"),
    ):  # fmt: skip
        code, output = flask(app, *words)
        assert (code, why in output) == (1, True), output
    assert shop.charges() == before


def test_money_of_an_account_that_is_gone_is_not_compared_and_breaks_nothing(shop: Shop, app: Flask) -> None:
    """A shop that has changed from test to live keys: nobody can ask the test account any more."""
    charge = protocol.pay(purchase(order()), shop.gateway, 3.0)
    refunds.refund(charge, 1000, shop.gateway, 3.0)
    assert command(shop)[1]["not_compared"] == []
    shop.execute(GONE, id=charge.id)
    EditedStatement(shop, lambda entries: [])
    code, report = command(shop)
    assert (code, report["not_compared"]) == (
        0, [{"what": "stripe test", "currency": "EUR", "entries": 1, "amount": 2400}],
    )  # fmt: skip
    assert "stripe test: 1, €24.00" in app.test_cli_runner().invoke(args=["audit"]).output


@pytest.mark.parametrize("words", [["audit"], ["reconcile"], ["reconcile", "--close", "r", "--reason", "r"]])
def test_a_database_that_can_t_be_read_is_not_taken_for_a_difference(words: list[str]) -> None:
    app = create_app(Settings(secret_key=SECRET, database_url="postgresql+psycopg2://127.0.0.1:1/shop"))
    with app.app_context():
        result = app.test_cli_runner().invoke(args=words)
    assert (result.exit_code, result.output.count("\n")) == (2, 1), result.output
