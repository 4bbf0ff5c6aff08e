"""The ten test cards. One key moves money at most once, however many requests arrive under it."""

import json
import socket
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from app.gateways.base import Outcome, Payment, Unknown
from app.gateways.sandbox.cards import Behaviour
from tests.factories import API_KEY
from tests.gateways.bank import WITH_KEY, RunningBank, at_once, card, charge_body, new_payment, outcomes

CHARGE = [("charge", 2400)]
TIMEOUT = 20.0

# For each card: the results of the first two charges under a key and of a lookup, and the movements of money.
UNKNOWN, TAKEN = "unknown", Outcome.SUCCEEDED
EXPECTED = {
    Behaviour.APPROVES: (TAKEN, TAKEN, TAKEN, CHARGE),
    Behaviour.DECLINES: (Outcome.DECLINED, Outcome.DECLINED, Outcome.DECLINED, []),
    Behaviour.INSUFFICIENT_FUNDS: (Outcome.DECLINED, Outcome.DECLINED, Outcome.DECLINED, []),
    Behaviour.ASKS_SHOPPER: (Outcome.REQUIRES_ACTION, Outcome.REQUIRES_ACTION, Outcome.REQUIRES_ACTION, []),
    Behaviour.SLOW: (TAKEN, TAKEN, TAKEN, CHARGE),
    Behaviour.LOSES_FIRST_ANSWER: (UNKNOWN, TAKEN, TAKEN, CHARGE),
    Behaviour.FAILS_AFTER_TAKING: (UNKNOWN, TAKEN, TAKEN, CHARGE),
    Behaviour.FAILS_BEFORE_TAKING: (UNKNOWN, TAKEN, TAKEN, CHARGE),
    Behaviour.SILENT_TAKES: (UNKNOWN, UNKNOWN, TAKEN, CHARGE),
    Behaviour.SILENT_TAKES_NOTHING: (UNKNOWN, UNKNOWN, None, []),
}


def charge(bank: RunningBank, payment: Payment, behaviour: Behaviour) -> Outcome | str:
    silent = behaviour in (Behaviour.SILENT_TAKES, Behaviour.SILENT_TAKES_NOTHING)
    try:
        return bank.gateway.charge(payment, card(behaviour), 0.5 if silent else TIMEOUT).outcome
    except Unknown:
        return UNKNOWN


@pytest.mark.parametrize("behaviour", list(Behaviour))
def test_each_card_does_what_its_description_says(bank: RunningBank, behaviour: Behaviour) -> None:
    payment = new_payment()
    first, second, known, moved = EXPECTED[behaviour]
    assert (charge(bank, payment, behaviour), charge(bank, payment, behaviour)) == (first, second)
    found = bank.gateway.lookup(payment, TIMEOUT)
    assert (found.outcome if found else None) == known
    assert bank.moved(payment.key) == moved


@pytest.mark.parametrize("behaviour", list(Behaviour))
def test_after_a_cancel_every_card_keeps_the_outcome_that_won(bank: RunningBank, behaviour: Behaviour) -> None:
    payment = new_payment()
    charge(bank, payment, behaviour)
    won = bank.gateway.cancel(payment, TIMEOUT)
    for _ in range(2):
        assert charge(bank, payment, behaviour) in (won.outcome, UNKNOWN)
    assert bank.gateway.lookup(payment, TIMEOUT) == bank.gateway.cancel(payment, TIMEOUT) == won
    assert bank.moved(payment.key) == (CHARGE if won.outcome is Outcome.SUCCEEDED else [])


@pytest.mark.parametrize("behaviour", list(Behaviour))
def test_no_card_takes_money_under_a_key_that_was_fenced_first(bank: RunningBank, behaviour: Behaviour) -> None:
    payment = new_payment()
    assert bank.gateway.cancel(payment, TIMEOUT).outcome is Outcome.CANCELED
    assert charge(bank, payment, behaviour) in (Outcome.CANCELED, UNKNOWN)
    assert bank.gateway.lookup(payment, TIMEOUT).outcome is Outcome.CANCELED  # type: ignore[union-attr]
    assert bank.moved(payment.key) == []


def test_a_declined_charge_has_a_reason(bank: RunningBank) -> None:
    gateway = bank.gateway
    assert gateway.charge(new_payment(), card(Behaviour.DECLINES), TIMEOUT).reason == "card_declined"
    assert gateway.charge(new_payment(), card(Behaviour.INSUFFICIENT_FUNDS), TIMEOUT).reason == "insufficient_funds"


@pytest.mark.slow
@pytest.mark.parametrize("behaviour", [Behaviour.APPROVES, Behaviour.SLOW, Behaviour.ASKS_SHOPPER])
def test_fifty_simultaneous_twins_move_money_once(bank: RunningBank, behaviour: Behaviour) -> None:
    for _ in range(2):
        payment, gateway = new_payment(), bank.gateway
        answers = at_once(*[lambda: gateway.charge(payment, card(behaviour), TIMEOUT)] * 50)  # noqa: B023
        assert outcomes(answers) == {str(EXPECTED[behaviour][0]): 50}
        assert bank.moved(payment.key) == EXPECTED[behaviour][3]


@pytest.mark.parametrize(
    "behaviour",
    [Behaviour.LOSES_FIRST_ANSWER, Behaviour.FAILS_AFTER_TAKING, Behaviour.FAILS_BEFORE_TAKING],
)
def test_exactly_one_of_the_twins_meets_the_fault(bank: RunningBank, behaviour: Behaviour) -> None:
    payment, gateway = new_payment(), bank.gateway
    answers = at_once(*[lambda: gateway.charge(payment, card(behaviour), TIMEOUT)] * 20)
    assert outcomes(answers) == {"Unknown": 1, "succeeded": 19}
    assert bank.moved(payment.key) == CHARGE


@pytest.mark.parametrize(
    "change",
    [{"amount": 2401}, {"currency": "USD"}, {"card": charge_body(new_payment(), Behaviour.DECLINES)["card"]}],
    ids=["amount", "currency", "card"],
)
def test_the_same_key_for_another_request_is_refused(bank: RunningBank, change: dict[str, object]) -> None:
    payment = new_payment()
    bank.gateway.charge(payment, card(), TIMEOUT)
    refused = httpx.post(f"{bank.url}/v1/charges", json=charge_body(payment, **change), headers=WITH_KEY)
    assert (refused.status_code, refused.json()["error"]) == (422, "key_reused")
    assert bank.moved(payment.key) == CHARGE
    assert bank.gateway.charge(payment, card(), TIMEOUT).outcome is Outcome.SUCCEEDED


def test_only_one_of_two_different_requests_wins_the_key(bank: RunningBank) -> None:
    key = new_payment().key
    gateway, both = bank.gateway, [new_payment(2400, key=key), new_payment(100, key=key)]
    answers = at_once(*[lambda p=p: gateway.charge(p, card(), TIMEOUT) for p in both * 10])  # type: ignore[misc]
    assert outcomes(answers) == {"succeeded": 10, "Unknown": 10}
    assert len(bank.moved(key)) == 1


def test_simultaneous_charges_and_cancels_agree_on_one_outcome(bank: RunningBank) -> None:
    gateway = bank.gateway
    for _ in range(20):
        payment = new_payment()
        charge, cancel = (lambda: gateway.charge(payment, card(), TIMEOUT)), (lambda: gateway.cancel(payment, TIMEOUT))  # noqa: B023
        answers = at_once(charge, cancel, charge, cancel)
        assert len(set(answers)) == 1, answers
        assert bank.moved(payment.key) == (CHARGE if answers[0].outcome is Outcome.SUCCEEDED else [])


def test_a_slow_charge_can_be_cancelled_while_it_runs(bank: RunningBank) -> None:
    payment, gateway = new_payment(), bank.gateway
    answers = at_once(
        lambda: gateway.charge(payment, card(Behaviour.SLOW), TIMEOUT), lambda: gateway.cancel(payment, TIMEOUT)
    )
    assert outcomes(answers) == {"canceled": 2}
    assert bank.moved(payment.key) == []


def test_a_request_that_arrives_after_the_cancel_takes_nothing(bank: RunningBank) -> None:
    payment = new_payment()
    body = json.dumps(charge_body(payment)).encode()
    head = f"POST /v1/charges HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {API_KEY}\r\nConnection: close"
    head += "\r\nContent-Type: application/json"
    with socket.create_connection((urlsplit(bank.url).hostname, urlsplit(bank.url).port), timeout=10) as wire:
        wire.sendall(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body[:-1])
        assert bank.gateway.lookup(payment, TIMEOUT) is None
        assert bank.gateway.cancel(payment, TIMEOUT).outcome is Outcome.CANCELED
        wire.sendall(body[-1:])
        assert b'"status":"canceled"' in wire.makefile("rb").read()
    assert bank.moved(payment.key) == []


@pytest.mark.slow
def test_slow_and_silent_cards_do_not_delay_lookups(bank: RunningBank) -> None:
    """There are far more of them than the bank has connections to its database."""
    gateway, payment = bank.gateway, new_payment()
    gateway.charge(payment, card(), TIMEOUT)

    def lookup_seconds() -> float:
        before = time.monotonic()
        assert gateway.lookup(payment, TIMEOUT)
        return time.monotonic() - before

    silent = [lambda: gateway.charge(new_payment(), card(Behaviour.SILENT_TAKES_NOTHING), 2.5)] * 70
    slow = [lambda: gateway.charge(new_payment(), card(Behaviour.SLOW), TIMEOUT)] * 30
    *answers, slowest = at_once(*silent, *slow, lambda: max(lookup_seconds() for _ in range(20)))
    assert outcomes(answers) == {"Unknown": 70, "succeeded": 30}
    assert slowest < 2, slowest


BAD_REQUESTS = {
    "no JSON": None,
    "a list": [],
    "no key": {"key": None},
    "odd key": {"key": "a b"},
    "long key": {"key": "k" * 201},
    "amount 0": {"amount": 0},
    "negative": {"amount": -1},
    "float": {"amount": 24.0},
    "true": {"amount": True},
    "text": {"amount": "2400"},
    "huge": {"amount": 10**18},
    "no currency": {"currency": "XXX"},
    "currency list": {"currency": ["EUR"]},
    "no card": {"card": None},
    "card text": {"card": "4242424242424242"},
    "real card": {"card": {"number": "5555555555554444", "expiry": "12/30", "cvc": "123"}},
    "no expiry": {"card": {"number": "4242424242424242", "expiry": "13/30", "cvc": "123"}},
    "no cvc": {"card": {"number": "4242424242424242", "expiry": "12/30", "cvc": ""}},
    "no return": {"return_url": None},
    "script": {"return_url": "javascript:alert(1)"},
    "user": {"return_url": "http://a@b/"},
    "header": {"return_url": "http://shop/\r\nSet-Cookie: a=b"},
    "policy": {"return_url": "http://shop;script-src/"},
    "port": {"return_url": "http://shop:x/"},
    "shop": {"shop": "a\0b"},
}


@pytest.mark.parametrize("change", list(BAD_REQUESTS.values()), ids=list(BAD_REQUESTS))
def test_an_invalid_charge_is_refused_and_changes_nothing(
    bank: RunningBank, change: dict[str, object] | list[object] | None
) -> None:
    payment = new_payment()
    body = {**charge_body(payment), **change} if isinstance(change, dict) else change
    answer = httpx.post(f"{bank.url}/v1/charges", json=body, headers=WITH_KEY)
    assert answer.status_code == 400
    assert {"error", "message"} == answer.json().keys()
    assert "5555555555554444" not in answer.text and "4242424242424242" not in answer.text
    assert bank.gateway.lookup(payment, TIMEOUT) is None
    assert bank.moved(payment.key) == []


def test_other_invalid_requests_get_json_too(bank: RunningBank) -> None:
    def request(method: str, path: str, headers: Mapping[str, str] = {}, **body: Any) -> httpx.Response:
        return httpx.request(method, bank.url + path, headers=WITH_KEY | headers, **body)

    is_json = {"Content-Type": "application/json"}
    answers = {
        "nested": (request("POST", "/v1/charges", content="[" * 60_000, headers=is_json), 400),
        "large": (request("POST", "/v1/charges", json={"shop": "x" * 70_000}), 413),
        "method": (request("DELETE", "/v1/charges"), 405),
        "unknown path": (request("GET", "/v1/nowhere"), 404),
        "key": (request("GET", "/v1/charges/a%00b"), 400),
        "refund": (request("POST", "/v1/refunds", json={"key": "a", "amount": 1, "currency": "EUR"}), 400),
    }
    for name, (answer, status) in answers.items():
        assert (name, answer.status_code) == (name, status)
        assert "error" in answer.json()


def test_the_key_may_be_in_the_header_but_two_different_keys_are_refused(bank: RunningBank) -> None:
    payment = new_payment()
    body = {name: value for name, value in charge_body(payment).items() if name != "key"}
    url, header = f"{bank.url}/v1/charges", {**WITH_KEY, "Idempotency-Key": payment.key}
    assert httpx.post(url, json=body, headers=header).json()["key"] == payment.key
    assert httpx.post(url, json={**body, "key": "other"}, headers=header).status_code == 400
    assert bank.moved(payment.key, "other") == CHARGE
