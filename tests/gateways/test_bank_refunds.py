"""Refunds at the bank: once per key, and never more than the charge in total."""

import httpx
import pytest

from app.gateways.base import Answer, Outcome, Payment
from app.gateways.sandbox.cards import Behaviour
from tests.gateways.bank import WITH_KEY, RunningBank, at_once, card, new_payment, new_refund, outcomes

TIMEOUT = 20.0


@pytest.fixture
def paid(bank: RunningBank) -> Payment:
    payment = new_payment(1000)
    assert bank.gateway.charge(payment, card(), TIMEOUT).outcome is Outcome.SUCCEEDED
    return payment


def test_partial_refunds_never_exceed_the_charge(bank: RunningBank, paid: Payment) -> None:
    gateway = bank.gateway
    first, rest, too_much = new_refund(paid, 400), new_refund(paid, 600), new_refund(paid, 1)
    assert gateway.refund(first, TIMEOUT) == gateway.refund(rest, TIMEOUT) == Answer(Outcome.SUCCEEDED)
    assert gateway.refund(too_much, TIMEOUT) == Answer(Outcome.DECLINED, reason="more_than_is_left")
    assert bank.moved(paid.key, first.key, rest.key, too_much.key) == [
        ("charge", 1000),
        ("refund", 400),
        ("refund", 600),
    ]


def test_the_same_key_moves_money_once_and_gets_the_same_answer(bank: RunningBank, paid: Payment) -> None:
    gateway, refund = bank.gateway, new_refund(paid, 400)
    assert gateway.lookup_refund(refund, TIMEOUT) is None
    answers = at_once(*[lambda: gateway.refund(refund, TIMEOUT)] * 50)
    assert outcomes(answers) == {"succeeded": 50}
    assert gateway.lookup_refund(refund, TIMEOUT) == Answer(Outcome.SUCCEEDED)
    assert bank.moved(refund.key) == [("refund", 400)]


def test_a_declined_refund_stays_declined(bank: RunningBank, paid: Payment) -> None:
    gateway, refund = bank.gateway, new_refund(paid, 1001)
    answers = {gateway.refund(refund, TIMEOUT), gateway.refund(refund, TIMEOUT), gateway.lookup_refund(refund, TIMEOUT)}
    assert answers == {Answer(Outcome.DECLINED, reason="more_than_is_left")}
    assert bank.moved(refund.key) == []


def test_simultaneous_refunds_never_exceed_the_charge(bank: RunningBank, paid: Payment) -> None:
    gateway, parts = bank.gateway, [new_refund(paid, 300) for _ in range(20)]
    answers = at_once(*[lambda r=r: gateway.refund(r, TIMEOUT) for r in parts])  # type: ignore[misc]
    assert outcomes(answers) == {"succeeded": 3, "declined": 17}
    assert bank.moved(*(r.key for r in parts)) == [("refund", 300)] * 3


def test_the_same_key_for_another_refund_is_refused(bank: RunningBank, paid: Payment) -> None:
    refund, other_payment = new_refund(paid, 400), new_payment(1000)
    bank.gateway.refund(refund, TIMEOUT)
    body = {"key": refund.key, "charge": paid.key, "amount": 400, "currency": "EUR"}
    for change in ({"amount": 401}, {"currency": "USD"}, {"charge": other_payment.key}):
        refused = httpx.post(f"{bank.url}/v1/refunds", json={**body, **change}, headers=WITH_KEY)
        assert (refused.status_code, refused.json()["error"]) == (422, "key_reused")
    assert bank.moved(refund.key) == [("refund", 400)]


def test_a_refund_in_another_currency_is_declined(bank: RunningBank, paid: Payment) -> None:
    body = {"key": f"{paid.key}-usd", "charge": paid.key, "amount": 400, "currency": "USD"}
    answer = httpx.post(f"{bank.url}/v1/refunds", json=body, headers=WITH_KEY).json()
    assert (answer["status"], answer["reason"]) == ("declined", "other_currency")
    assert bank.moved(body["key"]) == []


@pytest.mark.parametrize("behaviour", [Behaviour.DECLINES, Behaviour.ASKS_SHOPPER, None])
def test_a_charge_that_took_no_money_can_t_be_refunded(bank: RunningBank, behaviour: Behaviour | None) -> None:
    payment = new_payment(1000)
    if behaviour:
        bank.gateway.charge(payment, card(behaviour), TIMEOUT)
    refund = new_refund(payment, 1)
    assert bank.gateway.refund(refund, TIMEOUT) == Answer(Outcome.DECLINED, reason="nothing_was_taken")
    assert bank.moved(payment.key, refund.key) == []


def test_a_refund_may_have_the_same_key_as_a_charge(bank: RunningBank, paid: Payment) -> None:
    refund = new_refund(paid, 1000, key=paid.key)
    assert bank.gateway.lookup_refund(refund, TIMEOUT) is None
    assert bank.gateway.refund(refund, TIMEOUT).outcome is Outcome.SUCCEEDED
    assert bank.moved(paid.key) == [("charge", 1000), ("refund", 1000)]
