"""Refunds: once a key, never more than the charge in sum."""

import httpx
import pytest

from app.gateways.base import Answer, Outcome, Payment
from app.gateways.sandbox.cards import Behaviour
from tests.gateways.bank import RunningBank, at_once, card, outcomes, payment, refund_request

TIMEOUT = 20.0


@pytest.fixture
def paid(bank: RunningBank) -> Payment:
    asked = payment(1000)
    assert bank.gateway.charge(asked, card(), TIMEOUT).outcome is Outcome.SUCCEEDED
    return asked


def test_in_parts_and_whole_but_never_more(bank: RunningBank, paid: Payment) -> None:
    gateway = bank.gateway
    first, rest, more = refund_request(paid, 400), refund_request(paid, 600), refund_request(paid, 1)
    assert gateway.refund(first, TIMEOUT) == gateway.refund(rest, TIMEOUT) == Answer(Outcome.SUCCEEDED)
    assert gateway.refund(more, TIMEOUT) == Answer(Outcome.DECLINED, reason="more_than_is_left")
    assert bank.moved(paid.key, first.key, rest.key, more.key) == [
        ("charge", 1000),
        ("refund", 400),
        ("refund", 600),
    ]


def test_the_same_key_moves_money_once_and_answers_the_same(bank: RunningBank, paid: Payment) -> None:
    gateway, asked = bank.gateway, refund_request(paid, 400)
    assert gateway.lookup_refund(asked, TIMEOUT) is None
    answers = at_once(*[lambda: gateway.refund(asked, TIMEOUT)] * 50)
    assert outcomes(answers) == {"succeeded": 50}
    assert gateway.lookup_refund(asked, TIMEOUT) == Answer(Outcome.SUCCEEDED)
    assert bank.moved(asked.key) == [("refund", 400)]


def test_a_declined_refund_stays_declined(bank: RunningBank, paid: Payment) -> None:
    gateway, asked = bank.gateway, refund_request(paid, 1001)
    answers = {gateway.refund(asked, TIMEOUT), gateway.refund(asked, TIMEOUT), gateway.lookup_refund(asked, TIMEOUT)}
    assert answers == {Answer(Outcome.DECLINED, reason="more_than_is_left")}
    assert bank.moved(asked.key) == []


def test_many_at_once_never_give_back_more_than_was_taken(bank: RunningBank, paid: Payment) -> None:
    gateway, asked = bank.gateway, [refund_request(paid, 300) for _ in range(20)]
    answers = at_once(*[lambda r=r: gateway.refund(r, TIMEOUT) for r in asked])  # type: ignore[misc]
    assert outcomes(answers) == {"succeeded": 3, "declined": 17}
    assert bank.moved(*(r.key for r in asked)) == [("refund", 300)] * 3


def test_the_same_key_for_another_refund_is_refused(bank: RunningBank, paid: Payment) -> None:
    asked, other = refund_request(paid, 400), payment(1000)
    bank.gateway.refund(asked, TIMEOUT)
    body = {"key": asked.key, "charge": paid.key, "amount": 400, "currency": "EUR"}
    for change in ({"amount": 401}, {"currency": "USD"}, {"charge": other.key}):
        refused = httpx.post(f"{bank.url}/v1/refunds", json={**body, **change})
        assert (refused.status_code, refused.json()["error"]) == (422, "key_reused")
    assert bank.moved(asked.key) == [("refund", 400)]


def test_money_comes_back_only_in_the_currency_in_which_it_was_taken(bank: RunningBank, paid: Payment) -> None:
    body = {"key": f"{paid.key}-usd", "charge": paid.key, "amount": 400, "currency": "USD"}
    answer = httpx.post(f"{bank.url}/v1/refunds", json=body).json()
    assert (answer["status"], answer["reason"]) == ("declined", "other_currency")
    assert bank.moved(body["key"]) == []


@pytest.mark.parametrize("behaviour", [Behaviour.DECLINES, Behaviour.ASKS_SHOPPER, None])
def test_nothing_comes_back_where_nothing_was_taken(bank: RunningBank, behaviour: Behaviour | None) -> None:
    asked = payment(1000)
    if behaviour:
        bank.gateway.charge(asked, card(behaviour), TIMEOUT)
    back = refund_request(asked, 1)
    assert bank.gateway.refund(back, TIMEOUT) == Answer(Outcome.DECLINED, reason="nothing_was_taken")
    assert bank.moved(asked.key, back.key) == []


def test_keys_of_refunds_and_charges_are_worlds_apart(bank: RunningBank, paid: Payment) -> None:
    back = refund_request(paid, 1000, key=paid.key)
    assert bank.gateway.lookup_refund(back, TIMEOUT) is None
    assert bank.gateway.refund(back, TIMEOUT).outcome is Outcome.SUCCEEDED
    assert bank.moved(paid.key) == [("charge", 1000), ("refund", 1000)]
