"""The ten cards, and one key: one movement of money at most, whoever asks and however often."""

import json
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from app.gateways.base import Outcome, Unknown
from app.gateways.sandbox.cards import Behaviour
from tests.gateways.bank import RunningBank, at_once, card, charge_body, outcomes, payment

CHARGE = [("charge", 2400)]
TIMEOUT = 20.0

# For each card: what the first two calls under a key bring, then what a lookup says, and the money that moved.
UNKNOWN, TAKEN = "unknown", Outcome.SUCCEEDED
STORIES = {
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


def ask(bank: RunningBank, asked: object, behaviour: Behaviour) -> Outcome | str:
    silent = behaviour in (Behaviour.SILENT_TAKES, Behaviour.SILENT_TAKES_NOTHING)
    try:
        return bank.gateway.charge(asked, card(behaviour), 0.5 if silent else TIMEOUT).outcome  # type: ignore[arg-type]
    except Unknown:
        return UNKNOWN


@pytest.mark.parametrize("behaviour", list(Behaviour))
def test_each_card_does_what_its_words_say(bank: RunningBank, behaviour: Behaviour) -> None:
    asked = payment()
    first, second, known, moved = STORIES[behaviour]
    assert (ask(bank, asked, behaviour), ask(bank, asked, behaviour)) == (first, second)
    found = bank.gateway.lookup(asked, TIMEOUT)
    assert (found.outcome if found else None) == known
    assert bank.moved(asked.key) == moved


@pytest.mark.parametrize("behaviour", list(Behaviour))
def test_after_a_cancel_every_card_keeps_to_what_won(bank: RunningBank, behaviour: Behaviour) -> None:
    asked = payment()
    ask(bank, asked, behaviour)
    won = bank.gateway.cancel(asked, TIMEOUT)
    for _ in range(2):
        assert ask(bank, asked, behaviour) in (won.outcome, UNKNOWN)
    assert bank.gateway.lookup(asked, TIMEOUT) == bank.gateway.cancel(asked, TIMEOUT) == won
    assert bank.moved(asked.key) == (CHARGE if won.outcome is Outcome.SUCCEEDED else [])


@pytest.mark.parametrize("behaviour", list(Behaviour))
def test_no_card_takes_money_under_a_key_fenced_before_it_came(bank: RunningBank, behaviour: Behaviour) -> None:
    asked = payment()
    assert bank.gateway.cancel(asked, TIMEOUT).outcome is Outcome.CANCELED
    assert ask(bank, asked, behaviour) in (Outcome.CANCELED, UNKNOWN)
    assert bank.gateway.lookup(asked, TIMEOUT).outcome is Outcome.CANCELED  # type: ignore[union-attr]
    assert bank.moved(asked.key) == []


def test_declines_say_why(bank: RunningBank) -> None:
    gateway = bank.gateway
    assert gateway.charge(payment(), card(Behaviour.DECLINES), TIMEOUT).reason == "card_declined"
    assert gateway.charge(payment(), card(Behaviour.INSUFFICIENT_FUNDS), TIMEOUT).reason == "insufficient_funds"


@pytest.mark.slow
@pytest.mark.parametrize("behaviour", [Behaviour.APPROVES, Behaviour.SLOW, Behaviour.ASKS_SHOPPER])
def test_fifty_twins_at_the_same_moment_move_money_once(bank: RunningBank, behaviour: Behaviour) -> None:
    for _ in range(2):
        asked, gateway = payment(), bank.gateway
        answers = at_once(*[lambda: gateway.charge(asked, card(behaviour), TIMEOUT)] * 50)  # noqa: B023
        assert outcomes(answers) == {str(STORIES[behaviour][0]): 50}
        assert bank.moved(asked.key) == STORIES[behaviour][3]


@pytest.mark.parametrize(
    "behaviour",
    [Behaviour.LOSES_FIRST_ANSWER, Behaviour.FAILS_AFTER_TAKING, Behaviour.FAILS_BEFORE_TAKING],
)
def test_of_twins_exactly_one_meets_the_fault(bank: RunningBank, behaviour: Behaviour) -> None:
    asked, gateway = payment(), bank.gateway
    answers = at_once(*[lambda: gateway.charge(asked, card(behaviour), TIMEOUT)] * 20)
    assert outcomes(answers) == {"Unknown": 1, "succeeded": 19}
    assert bank.moved(asked.key) == CHARGE


@pytest.mark.parametrize(
    "change",
    [{"amount": 2401}, {"currency": "USD"}, {"card": charge_body(payment(), Behaviour.DECLINES)["card"]}],
    ids=["amount", "currency", "card"],
)
def test_the_same_key_for_another_request_is_refused(bank: RunningBank, change: dict[str, object]) -> None:
    asked = payment()
    bank.gateway.charge(asked, card(), TIMEOUT)
    refused = httpx.post(f"{bank.url}/v1/charges", json=charge_body(asked, **change))
    assert (refused.status_code, refused.json()["error"]) == (422, "key_reused")
    assert bank.moved(asked.key) == CHARGE
    assert bank.gateway.charge(asked, card(), TIMEOUT).outcome is Outcome.SUCCEEDED


def test_of_two_requests_racing_for_a_key_one_is_served(bank: RunningBank) -> None:
    key = payment().key
    gateway, both = bank.gateway, [payment(2400, key=key), payment(100, key=key)]
    answers = at_once(*[lambda p=p: gateway.charge(p, card(), TIMEOUT) for p in both * 10])  # type: ignore[misc]
    assert outcomes(answers) == {"succeeded": 10, "Unknown": 10}
    assert len(bank.moved(key)) == 1


def test_charge_and_cancel_at_the_same_moment_agree(bank: RunningBank) -> None:
    gateway = bank.gateway
    for _ in range(20):
        asked = payment()
        charge, cancel = (lambda: gateway.charge(asked, card(), TIMEOUT)), (lambda: gateway.cancel(asked, TIMEOUT))  # noqa: B023
        answers = at_once(charge, cancel, charge, cancel)
        assert len(set(answers)) == 1, answers
        assert bank.moved(asked.key) == (CHARGE if answers[0].outcome is Outcome.SUCCEEDED else [])


def test_a_slow_charge_can_be_cancelled_while_it_waits(bank: RunningBank) -> None:
    asked, gateway = payment(), bank.gateway
    answers = at_once(
        lambda: gateway.charge(asked, card(Behaviour.SLOW), TIMEOUT), lambda: gateway.cancel(asked, TIMEOUT)
    )
    assert outcomes(answers) == {"canceled": 2}
    assert bank.moved(asked.key) == []


def test_a_request_held_back_in_the_network_takes_nothing_after_the_cancel(bank: RunningBank) -> None:
    asked = payment()
    body = json.dumps(charge_body(asked)).encode()
    head = "POST /v1/charges HTTP/1.1\r\nHost: bank\r\nConnection: close\r\nContent-Type: application/json"
    with socket.create_connection((urlsplit(bank.url).hostname, urlsplit(bank.url).port), timeout=10) as wire:
        wire.sendall(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body[:-1])
        assert bank.gateway.lookup(asked, TIMEOUT) is None
        assert bank.gateway.cancel(asked, TIMEOUT).outcome is Outcome.CANCELED
        wire.sendall(body[-1:])
        assert b'"status":"canceled"' in wire.makefile("rb").read()
    assert bank.moved(asked.key) == []


@pytest.mark.slow
def test_slow_and_silent_cards_keep_nobody_else_waiting(bank: RunningBank) -> None:
    """Far more of them than the bank has connections to its books."""
    gateway, asked = bank.gateway, payment()
    gateway.charge(asked, card(), TIMEOUT)

    def look() -> float:
        before = time.monotonic()
        assert gateway.lookup(asked, TIMEOUT)
        return time.monotonic() - before

    silent = [lambda: gateway.charge(payment(), card(Behaviour.SILENT_TAKES_NOTHING), 2.5)] * 70
    slow = [lambda: gateway.charge(payment(), card(Behaviour.SLOW), TIMEOUT)] * 30
    *rest, took = at_once(*silent, *slow, lambda: max(look() for _ in range(20)))
    assert outcomes(rest) == {"Unknown": 70, "succeeded": 30}
    assert took < 2, took


BAD = {
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


@pytest.mark.parametrize("change", list(BAD.values()), ids=list(BAD))
def test_senseless_requests_are_refused_and_change_nothing(
    bank: RunningBank, change: dict[str, object] | list[object] | None
) -> None:
    asked = payment()
    body = {**charge_body(asked), **change} if isinstance(change, dict) else change
    answer = httpx.post(f"{bank.url}/v1/charges", json=body)
    assert answer.status_code == 400
    assert {"error", "message"} == answer.json().keys()
    assert "5555555555554444" not in answer.text and "4242424242424242" not in answer.text
    assert bank.gateway.lookup(asked, TIMEOUT) is None
    assert bank.moved(asked.key) == []


def test_other_senseless_requests_get_json_too(bank: RunningBank) -> None:
    def ask(method: str, path: str, **body: Any) -> httpx.Response:
        return httpx.request(method, bank.url + path, **body)

    is_json = {"Content-Type": "application/json"}
    answers = {
        "nested": (ask("POST", "/v1/charges", content="[" * 60_000, headers=is_json), 400),
        "large": (ask("POST", "/v1/charges", json={"shop": "x" * 70_000}), 413),
        "method": (ask("DELETE", "/v1/charges"), 405),
        "nowhere": (ask("GET", "/v1/nowhere"), 404),
        "key": (ask("GET", "/v1/charges/a%00b"), 400),
        "refund": (ask("POST", "/v1/refunds", json={"key": "a", "amount": 1, "currency": "EUR"}), 400),
    }
    for name, (answer, status) in answers.items():
        assert (name, answer.status_code) == (name, status)
        assert "error" in answer.json()


def test_the_key_may_come_in_the_header_but_not_two_keys(bank: RunningBank) -> None:
    asked = payment()
    body = {name: value for name, value in charge_body(asked).items() if name != "key"}
    url, header = f"{bank.url}/v1/charges", {"Idempotency-Key": asked.key}
    assert httpx.post(url, json=body, headers=header).json()["key"] == asked.key
    assert httpx.post(url, json={**body, "key": "other"}, headers=header).status_code == 400
    assert bank.moved(asked.key, "other") == CHARGE
