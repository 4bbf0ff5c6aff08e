"""The contract of `app/gateways/base.py`, tested for every gateway with a real server over real HTTP.

`contract.py` has one counterpart per gateway: the sandbox bank itself, and a stand-in for Stripe. Movements of money
are read from the gateway's own records, never through the client. Lost and wrong answers are in
`test_contract_faults.py`, events in `test_contract_events.py`, the statement in `test_contract_statement.py`.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from app import settings
from app.gateways import registry
from app.gateways.base import (
    Answer,
    Contradiction,
    HostedGateway,
    Outcome,
    Payment,
    RefundRequest,
    Unknown,
)
from app.settings import Settings, SettingsError
from tests.factories import SECRET
from tests.gateways.bank import at_once
from tests.gateways.contract import AMOUNT, COUNTERPARTS, TIMEOUT, Counterpart, part_of
from tests.policies.sources import ROOT, imports

CHARGED = [("charge", AMOUNT)]
NAMES = [counterpart.name for counterpart in COUNTERPARTS]


@pytest.fixture(scope="module", params=COUNTERPARTS, ids=NAMES)
def counterpart(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counterpart]:
    with request.param(tmp_path_factory.mktemp(request.param.name)) as counterpart:
        yield counterpart


def test_every_gateway_has_a_counterpart() -> None:
    """The imports of the registry, the packages next to it and the values of PAYMENT_GATEWAY must agree."""
    folder = ROOT / "app" / "gateways"
    imported = {name.split(".")[2] for name in imports(folder / "registry.py") if name.startswith("app.gateways.")}
    assert imported - {"base"} == set(NAMES)
    assert {path.parent.name for path in folder.glob("*/__init__.py")} == set(NAMES)
    with pytest.raises(SettingsError) as error:
        settings.read("payment_gateway", {"PAYMENT_GATEWAY": "no such gateway"})
    assert set(re.findall(r"\w+", str(error.value).partition(" must be ")[2])) - {"or"} == set(NAMES)


def test_the_registry_makes_every_gateway(tmp_path: Path) -> None:
    """A shop that has changed to another gateway still knows the earlier one."""
    origin = "http://127.0.0.1:9"
    values = {name: value for each in COUNTERPARTS for name, value in each(tmp_path).settings(origin).items()}
    for name in NAMES:
        gateways = registry.from_settings(Settings(secret_key=SECRET, payment_gateway=name, **values))
        assert gateways.current.name == name
        assert {known.name for known in gateways} == set(NAMES)
        for known in gateways:
            assert gateways.of(known.name, known.account) is known
            assert gateways.of(known.name, "another account") is None


def test_cards_are_taken_here_or_on_the_gateways_page(counterpart: Counterpart) -> None:
    gateway = counterpart.client()
    assert gateway.takes_cards == (not isinstance(gateway, HostedGateway)) == bool(counterpart.decides_at_once)


# The same key and the same request get the same answer, and money moves once.


def test_a_card_that_is_decided_at_once_is_charged_once(counterpart: Counterpart) -> None:
    gateway = counterpart.client()
    for outcome, card in counterpart.decides_at_once.items():
        payment = counterpart.payment()
        answers = at_once(*[lambda p=payment, c=card: gateway.charge(p, c, TIMEOUT)] * 5)  # type: ignore[misc]
        assert [answer.outcome for answer in answers] == [outcome] * 5
        assert answers == [gateway.charge(payment, card, TIMEOUT)] * 5
        assert gateway.lookup(payment, TIMEOUT) == answers[0]
        assert gateway.cancel(payment, TIMEOUT).outcome is outcome
        assert counterpart.moved(payment.key) == (CHARGED if outcome is Outcome.SUCCEEDED else [])


def test_the_same_request_gets_the_same_answer_and_is_paid_once(counterpart: Counterpart) -> None:
    """Several requests arrive under one key before the shopper approves the payment."""
    gateway, payment = counterpart.client(), counterpart.payment()
    charge = lambda: gateway.charge(payment, counterpart.card, TIMEOUT)  # noqa: E731
    first = charge()
    assert gateway.page_origin and first.action_url
    assert (first.outcome, first.action_url.startswith(gateway.page_origin + "/")) == (Outcome.REQUIRES_ACTION, True)
    assert [charge(), charge()] == [first, first]
    assert counterpart.moved(payment.key) == []
    assert counterpart.decide(first, counterpart.approves)
    with suppress(Unknown):  # A gateway may repeat its first answer or return the present state.
        assert charge().outcome in {Outcome.REQUIRES_ACTION, Outcome.SUCCEEDED}
    assert not counterpart.decide(first, counterpart.declines)
    assert outcome(gateway.lookup(payment, TIMEOUT)) is Outcome.SUCCEEDED
    assert counterpart.moved(payment.key) == CHARGED


def test_simultaneous_twins_are_one_payment(counterpart: Counterpart) -> None:
    gateway, payment = counterpart.client(), counterpart.payment()
    answers = at_once(*[lambda: gateway.charge(payment, counterpart.card, TIMEOUT)] * 8)
    definite = [answer for answer in answers if isinstance(answer, Answer)]
    assert all(isinstance(answer, Answer | Unknown) for answer in answers), answers
    assert definite and len(set(definite)) == 1
    assert counterpart.decide(definite[0], counterpart.approves)
    assert counterpart.moved(payment.key) == CHARGED


def test_a_key_that_is_used_for_another_request_is_unknown(counterpart: Counterpart) -> None:
    gateway, (payment, answer) = counterpart.client(), counterpart.waiting()
    other = counterpart.payment(amount=AMOUNT + 10)
    reused = Payment(payment.key, other.amount, "EUR", other.return_url, gateway_request=other.gateway_request)
    with pytest.raises(Unknown):
        gateway.charge(reused, counterpart.card, TIMEOUT)
    assert counterpart.decide(answer, counterpart.approves)
    assert counterpart.moved(payment.key) == CHARGED


# Lookup and cancel.


def test_lookup_of_a_key_that_the_gateway_has_never_seen(counterpart: Counterpart) -> None:
    """For a fresh key, a gateway may send the stored request to find out. That moves no money either."""
    gateway, aged, fresh = counterpart.client(), counterpart.aged(counterpart.payment()), counterpart.payment()
    assert gateway.lookup(aged, TIMEOUT) is None
    found = gateway.lookup(fresh, TIMEOUT)
    assert found is None or found.outcome is Outcome.REQUIRES_ACTION
    assert counterpart.moved(aged.key, fresh.key) == []


def test_lookup_returns_the_present_state(counterpart: Counterpart) -> None:
    gateway, (payment, answer) = counterpart.client(), counterpart.waiting()
    assert gateway.lookup(payment, TIMEOUT) == answer
    counterpart.decide(answer, counterpart.declines)
    assert outcome(gateway.lookup(payment, TIMEOUT)) in {Outcome.DECLINED, Outcome.REQUIRES_ACTION}
    assert counterpart.moved(payment.key) == []
    assert outcome(gateway.lookup(counterpart.paid(), TIMEOUT)) is Outcome.SUCCEEDED


@pytest.mark.parametrize("seen", ["never", "never, and long ago", "waiting", "declined on the page"])
def test_after_a_cancel_a_late_request_takes_nothing(counterpart: Counterpart, seen: str) -> None:
    """The shopper still has the page open, and another request under the key arrives later."""
    gateway, payment, pages = counterpart.client(), counterpart.payment(), []
    if seen == "never, and long ago":
        payment = counterpart.aged(payment)
    elif seen != "never":
        payment, answer = counterpart.waiting()
        pages.append(answer)
        if seen != "waiting":
            counterpart.decide(answer, counterpart.declines)

    won = gateway.cancel(payment, TIMEOUT)
    assert won.outcome in ({Outcome.CANCELED, Outcome.DECLINED} if seen.startswith("declined") else {Outcome.CANCELED})
    with suppress(Unknown):
        late = gateway.charge(payment, counterpart.card, TIMEOUT)
        assert late.outcome is not Outcome.SUCCEEDED
        pages.append(late)
    for page in pages:
        if page.action_url:
            assert not counterpart.decide(page, counterpart.approves)
    assert gateway.cancel(payment, TIMEOUT).outcome is won.outcome
    assert outcome(gateway.lookup(payment, TIMEOUT)) in {won.outcome, None}
    assert counterpart.moved(payment.key) == []


def test_cancel_returns_a_success_that_won(counterpart: Counterpart) -> None:
    gateway, payment = counterpart.client(), counterpart.paid()
    assert gateway.cancel(payment, TIMEOUT).outcome is Outcome.SUCCEEDED
    assert counterpart.moved(payment.key) == CHARGED


def test_a_key_that_took_another_amount_is_a_contradiction(counterpart: Counterpart) -> None:
    gateway, other = counterpart.client(), replace(counterpart.paid(), amount=AMOUNT + 10)
    for question in (gateway.lookup, gateway.cancel):
        with pytest.raises(Contradiction):
            question(other, TIMEOUT)


def test_a_key_that_waits_with_another_amount_can_be_cancelled(counterpart: Counterpart) -> None:
    gateway, (payment, answer) = counterpart.client(), counterpart.waiting()
    other = replace(payment, amount=AMOUNT + 10, gateway_reference=answer.gateway_reference)
    with pytest.raises(Contradiction):
        gateway.lookup(other, TIMEOUT)
    assert [gateway.cancel(other, TIMEOUT).outcome for _ in range(2)] == [Outcome.CANCELED] * 2
    assert not counterpart.decide(answer, counterpart.approves)
    assert counterpart.moved(payment.key) == []


def test_simultaneous_cancels_and_approval_agree_on_one_outcome(counterpart: Counterpart) -> None:
    gateway = counterpart.client()
    for _ in range(10):
        payment, answer = counterpart.waiting()
        won, approved, again = at_once(
            lambda p=payment: gateway.cancel(p, TIMEOUT).outcome,
            lambda a=answer: counterpart.decide(a, counterpart.approves),
            lambda p=payment: gateway.cancel(p, TIMEOUT).outcome,
        )  # type: ignore[misc]
        assert won is again is (Outcome.SUCCEEDED if approved else Outcome.CANCELED)
        assert counterpart.moved(payment.key) == (CHARGED if approved else [])


# Refunds.


def test_a_refund_moves_money_once_per_key(counterpart: Counterpart) -> None:
    gateway, payment = counterpart.client(), counterpart.paid()
    part = part_of(payment, 1000)
    assert gateway.lookup_refund(part, TIMEOUT) is None
    first = gateway.refund(part, TIMEOUT)
    assert first.outcome is Outcome.SUCCEEDED
    assert first == gateway.refund(part, TIMEOUT) == gateway.lookup_refund(part, TIMEOUT)
    assert counterpart.moved(payment.key, part.key) == [*CHARGED, ("refund", 1000)]


def test_twins_of_a_refund_move_money_once(counterpart: Counterpart) -> None:
    gateway, payment = counterpart.client(), counterpart.paid()
    part = part_of(payment, 1000)
    answers = at_once(*[lambda: gateway.refund(part, TIMEOUT)] * 6)
    assert {outcome(each) for each in answers if isinstance(each, Answer)} == {Outcome.SUCCEEDED}
    assert all(isinstance(each, Answer | Unknown) for each in answers), answers
    assert counterpart.moved(part.key) == [("refund", 1000)]


def test_a_refund_key_that_is_used_for_another_amount_is_unknown(counterpart: Counterpart) -> None:
    gateway, payment = counterpart.client(), counterpart.paid()
    part = part_of(payment, 1000)
    gateway.refund(part, TIMEOUT)
    reused = RefundRequest(part.key, 2000, payment)
    for ask in (gateway.refund, gateway.lookup_refund):
        with pytest.raises(Unknown):
            ask(reused, TIMEOUT)
    assert counterpart.moved(part.key) == [("refund", 1000)]


def test_partial_refunds_never_exceed_the_payment(counterpart: Counterpart) -> None:
    """Of five simultaneous refunds, three fit. Then the rest can be refunded, and nothing more."""
    gateway, payment = counterpart.client(), counterpart.paid()
    parts = [part_of(payment, 15_000) for _ in range(5)]
    answers = at_once(*[lambda p=part: gateway.refund(p, TIMEOUT) for part in parts])  # type: ignore[misc]
    assert sorted(outcome(each) or "" for each in answers) == [Outcome.DECLINED] * 2 + [Outcome.SUCCEEDED] * 3
    rest, too_much = part_of(payment, AMOUNT - 45_000), part_of(payment, 1)
    assert gateway.refund(rest, TIMEOUT).outcome is Outcome.SUCCEEDED
    assert gateway.refund(too_much, TIMEOUT).outcome is Outcome.DECLINED
    moved = counterpart.moved(rest.key, too_much.key, *(part.key for part in parts))
    assert sorted(moved) == [("refund", AMOUNT - 45_000)] + [("refund", 15_000)] * 3


def test_a_payment_that_took_no_money_can_t_be_refunded(counterpart: Counterpart) -> None:
    gateway, (payment, _) = counterpart.client(), counterpart.waiting()
    part = part_of(payment, 1000)
    with suppress(Unknown):
        assert gateway.refund(part, TIMEOUT).outcome is Outcome.DECLINED
    gateway.cancel(payment, TIMEOUT)
    with suppress(Unknown):
        assert gateway.refund(part, TIMEOUT).outcome is Outcome.DECLINED
    assert counterpart.moved(payment.key, part.key) == []


def outcome(answer: Answer | None) -> Outcome | None:
    """Return the outcome, or None if the gateway has never seen the key."""
    return answer.outcome if answer else None
