"""Record: the outcome is written once, together with everything that follows from it."""

from functools import partial

import pytest
from flask import Flask

from app.charges import protocol
from app.charges.protocol import pay
from app.charges.rows import ChargeSnapshot
from app.charges.states import CANCELED, DECLINED, IN_DOUBT, SUCCEEDED
from app.gateways.base import Answer, NotSent, Outcome, Unknown
from app.orders import stock
from tests.charges import gateways
from tests.charges.gateways import ScriptedGateway
from tests.charges.parallel import at_once
from tests.factories import MUG, order, purchase, show_again
from tests.shops import Shop

LEDGER = "SELECT account, amount, currency FROM ledger_entry ORDER BY account"


@pytest.fixture
def charge(shop: Shop, app: Flask) -> ChargeSnapshot:
    return protocol.claim(purchase(order({MUG: 2})), ScriptedGateway(), 3)


def test_success_makes_one_posting_and_one_email(shop: Shop, charge: ChargeSnapshot) -> None:
    protocol.record(charge, gateways.APPROVED)
    assert shop.rows(LEDGER) == [("gateway", 4800, "EUR"), ("sales", -4800, "EUR")]
    assert shop.value("SELECT count(*) FROM outbox_email") == 1
    assert shop.stock(MUG) == 198


@pytest.mark.parametrize("outcome", [Outcome.DECLINED, Outcome.CANCELED])
def test_an_end_without_money_releases_the_stock_once(shop: Shop, charge: ChargeSnapshot, outcome: Outcome) -> None:
    for _ in range(3):
        protocol.record(charge, Answer(outcome, reason="because"))
    assert shop.stock(MUG) == 200
    assert shop.rows("SELECT status, reason FROM charge") == [(outcome.value, "because")]
    assert shop.value("SELECT state FROM orders") == "open"
    assert shop.rows(LEDGER) == []


def test_simultaneous_records_of_one_outcome_write_it_once(shop: Shop, app: Flask, charge: ChargeSnapshot) -> None:
    results = at_once(app, [partial(protocol.record, charge, gateways.APPROVED)] * 8)
    assert {result.status for result in results} == {SUCCEEDED}
    assert len(shop.rows(LEDGER)) == 2


def test_of_two_simultaneous_outcomes_one_is_recorded(shop: Shop, app: Flask) -> None:
    for _ in range(6):
        charge = protocol.claim(purchase(order({MUG: 1})), ScriptedGateway(), 3)
        before = shop.stock(MUG)
        answers = [Answer(Outcome.DECLINED), Answer(Outcome.CANCELED)] * 3
        results = at_once(app, [partial(protocol.record, charge, answer) for answer in answers])
        assert len({result.status for result in results}) == 1
        assert shop.stock(MUG) == before + 1, "the stock must be released once"


def test_doubt_keeps_the_order_frozen_and_stores_the_reason(shop: Shop, app: Flask) -> None:
    charge = pay(purchase(order({MUG: 2})), ScriptedGateway(Unknown("the bank answered 500", again=False)), 3)
    assert charge.status is IN_DOUBT
    assert shop.rows("SELECT status, note FROM charge") == [("in_doubt", "the bank answered 500")]
    assert (shop.value("SELECT state FROM orders"), shop.stock(MUG)) == ("placed", 198)


def test_a_bank_that_cannot_be_reached_took_nothing(shop: Shop, app: Flask) -> None:
    token = order({MUG: 2})
    charge = pay(purchase(token), ScriptedGateway(NotSent("no connection")), 3)
    assert charge.status is CANCELED
    assert (shop.value("SELECT state FROM orders"), shop.stock(MUG)) == ("open", 200)
    assert pay(purchase(show_again(token.buyer_id)), ScriptedGateway(), 3).status is SUCCEEDED


def test_a_stray_payment_is_posted_and_refunded_once(shop: Shop, charge: ChargeSnapshot) -> None:
    """The gateway reports success after "declined". The charge stays declined; the money is posted to `unexpected`."""
    protocol.record(charge, Answer(Outcome.DECLINED))
    for _ in range(3):
        assert protocol.record(charge, gateways.APPROVED).status is DECLINED
    assert [(bool(stray), amount) for stray, amount in shop.rows("SELECT stray, amount FROM refund")] == [(True, 4800)]
    assert shop.rows(LEDGER) == [("gateway", 4800, "EUR"), ("unexpected", -4800, "EUR")]


def test_a_reopened_order_can_be_sold_out(shop: Shop, app: Flask) -> None:
    token = order({MUG: 200})
    pay(purchase(token), ScriptedGateway(gateways.DECLINED), 3)
    pay(purchase(order({MUG: 1})), ScriptedGateway(), 3)
    with pytest.raises(stock.SoldOut):
        pay(purchase(show_again(token.buyer_id)), ScriptedGateway(), 3)
    assert shop.stock(MUG) == 199
