"""For every gateway: no answer, a wrong answer or a late answer is never taken for an outcome.

A proxy between the client and the server replaces the server's response (`proxy.py`). After each fault, asking the
same question again returns the true outcome, and money has moved at most once.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from app.gateways.base import Answer, Gateway, NotSent, Outcome, Payment, RefundRequest, Unknown
from app.gateways.sandbox import client
from app.gateways.stripe import transport
from tests.gateways.contract import AMOUNT, COUNTERPARTS, TIMEOUT, Counterpart, part_of, refusing_origin
from tests.gateways.proxy import ERROR, NEVER_ENDING, NO_ANSWER, SILENT, Proxy, padded, running_proxy, with_changes

REFUNDED = 1000


@pytest.fixture(scope="module", params=COUNTERPARTS, ids=[counterpart.name for counterpart in COUNTERPARTS])
def counterpart(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counterpart]:
    with request.param(tmp_path_factory.mktemp(request.param.name)) as counterpart:
        yield counterpart


@pytest.fixture(scope="module")
def shared_proxy(counterpart: Counterpart) -> Iterator[Proxy]:
    with running_proxy(counterpart.origin) as proxy:
        yield proxy


@pytest.fixture
def proxy(shared_proxy: Proxy) -> Iterator[Proxy]:
    """A proxy in front of the gateway, without a fault."""
    shared_proxy.remove_fault()
    yield shared_proxy
    shared_proxy.remove_fault()


@dataclass(frozen=True)
class Question:
    """One method of the interface, with a payment or refund in the state in which the shop calls it."""

    prepare: Callable[[Counterpart], Any]
    """Return the payment or the refund request that the question is about."""
    ask: Callable[[Counterpart, Gateway, Any, float], Answer | None]
    outcome: Outcome
    movements: int = 0
    """Movements of money afterwards. If the payment waits for its shopper, an approval adds one."""


def new(counterpart: Counterpart) -> Payment:
    return counterpart.payment()


def waiting(counterpart: Counterpart) -> Payment:
    return counterpart.waiting()[0]


def paid(counterpart: Counterpart) -> Payment:
    return counterpart.paid()


def to_refund(counterpart: Counterpart) -> RefundRequest:
    return part_of(counterpart.paid(), REFUNDED)


def refunded(counterpart: Counterpart) -> RefundRequest:
    part = to_refund(counterpart)
    assert counterpart.client().refund(part, TIMEOUT).outcome is Outcome.SUCCEEDED
    return part


QUESTIONS = {
    "charge": Question(new, lambda c, g, about, t: g.charge(about, c.card, t), Outcome.REQUIRES_ACTION),
    "lookup of one that waits": Question(
        waiting, lambda c, g, about, t: g.lookup(about, t), Outcome.REQUIRES_ACTION
    ),
    "lookup of a paid one": Question(paid, lambda c, g, about, t: g.lookup(about, t), Outcome.SUCCEEDED, 1),
    "cancel": Question(waiting, lambda c, g, about, t: g.cancel(about, t), Outcome.CANCELED),
    "cancel of a paid one": Question(paid, lambda c, g, about, t: g.cancel(about, t), Outcome.SUCCEEDED, 1),
    "refund": Question(to_refund, lambda c, g, about, t: g.refund(about, t), Outcome.SUCCEEDED, 2),
    "lookup of a refund": Question(refunded, lambda c, g, about, t: g.lookup_refund(about, t), Outcome.SUCCEEDED, 2),
}  # fmt: skip


QUICK = {"not forwarded", "lost", "error 500", "HTML"}
FAULTS = [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in NO_ANSWER]


@pytest.fixture(params=QUESTIONS)
def question(request: pytest.FixtureRequest) -> Question:
    return QUESTIONS[request.param]


def payment_of(about: Any) -> Payment:
    return about.payment if isinstance(about, RefundRequest) else about


def steps(counterpart: Counterpart, proxy: Proxy, question: Question) -> range:
    """Return the numbers of the requests that the client sends for the question."""
    about = question.prepare(counterpart)
    proxy.remove_fault()
    answer = question.ask(counterpart, counterpart.client(proxy.origin), about, TIMEOUT)
    assert proxy.requests and answer and answer.outcome is question.outcome
    return range(proxy.requests)


def check_outcome(counterpart: Counterpart, question: Question, about: Any) -> None:
    """Ask again without the proxy: the answer is definite, and money has moved the right number of times."""
    answer = question.ask(counterpart, counterpart.client(), about, TIMEOUT)
    assert answer and answer.outcome is question.outcome
    keys = {about.key, payment_of(about).key}
    assert len(counterpart.moved(*keys)) == question.movements
    if answer.outcome is Outcome.REQUIRES_ACTION:
        assert counterpart.decide(answer, counterpart.approves)
        assert counterpart.moved(*keys) == [("charge", AMOUNT)]


def test_a_refused_connection_is_not_sent(counterpart: Counterpart, question: Question) -> None:
    about = question.prepare(counterpart)
    with refusing_origin() as origin, pytest.raises(NotSent):
        question.ask(counterpart, counterpart.client(origin), about, TIMEOUT)
    check_outcome(counterpart, question, about)


@pytest.mark.parametrize("fault", FAULTS)
def test_no_answer_is_unknown_and_asking_again_returns_the_outcome(
    counterpart: Counterpart, proxy: Proxy, question: Question, fault: str
) -> None:
    """The fault is applied to each request of the question in turn. The others get their response."""
    for step in steps(counterpart, proxy, question):
        about = question.prepare(counterpart)
        proxy.set_fault(NO_ANSWER[fault], step)
        with pytest.raises(Unknown):
            question.ask(counterpart, counterpart.client(proxy.origin), about, TIMEOUT)
        assert proxy.fault_was_applied()
        check_outcome(counterpart, question, about)


@pytest.mark.slow
@pytest.mark.parametrize("fault", SILENT)
def test_silence_is_unknown_and_asking_again_returns_the_outcome(
    counterpart: Counterpart, proxy: Proxy, question: Question, fault: str
) -> None:
    """No socket is closed, so only the deadline can end the question."""
    for step in steps(counterpart, proxy, question):
        about = question.prepare(counterpart)
        proxy.set_fault(SILENT[fault], step)
        with pytest.raises(Unknown, match="in time"):
            question.ask(counterpart, counterpart.client(proxy.origin), about, 0.3)
        assert proxy.fault_was_applied()
        check_outcome(counterpart, question, about)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_by_a_proxy_does_not_mean_that_the_key_is_unknown(
    counterpart: Counterpart, proxy: Proxy, question: Question, status: int
) -> None:
    """A proxy's "not found" must neither end a charge nor fence its key."""
    about = question.prepare(counterpart)
    proxy.set_fault(lambda exchange: exchange.respond(status, ERROR))
    with pytest.raises(Unknown):
        question.ask(counterpart, counterpart.client(proxy.origin), about, TIMEOUT)
    check_outcome(counterpart, question, about)


def test_an_answer_that_is_too_large_is_unknown(counterpart: Counterpart, proxy: Proxy, question: Question) -> None:
    """The answer is correct, with spaces at its end. One that just fits is read."""
    about = question.prepare(counterpart)
    gateway = counterpart.client(proxy.origin)
    proxy.set_fault(padded(counterpart.largest_answer + 1))
    with pytest.raises(Unknown):
        question.ask(counterpart, gateway, about, TIMEOUT)
    proxy.set_fault(padded(counterpart.largest_answer))
    answer = question.ask(counterpart, gateway, about, TIMEOUT)
    assert answer and answer.outcome is question.outcome
    check_outcome(counterpart, question, about)


WRONG_ANSWERS: dict[str, Callable[[Any], dict[Any, Any]]] = {
    "another key": lambda about: dict.fromkeys({about.key, payment_of(about).key}, "another"),
    "another amount": lambda about: {AMOUNT: AMOUNT + 1, REFUNDED: REFUNDED + 1},
    "the amount as text": lambda about: {AMOUNT: str(AMOUNT), REFUNDED: str(REFUNDED)},
    "another currency": lambda about: {"EUR": "USD", "eur": "usd"},
}


@pytest.mark.parametrize("wrong", WRONG_ANSWERS)
def test_an_answer_with_other_values_is_unknown(
    counterpart: Counterpart, proxy: Proxy, question: Question, wrong: str
) -> None:
    """Two exceptions: a list of refunds without our key says that the gateway has never seen the refund, and a payment
    that ended without money has ended, whatever its amount was.
    """
    about = question.prepare(counterpart)
    proxy.set_fault(with_changes(WRONG_ANSWERS[wrong](about)))
    gateway = counterpart.client(proxy.origin)
    if isinstance(about, RefundRequest) and question.prepare is refunded and wrong == "another key":
        with suppress(Unknown):
            assert question.ask(counterpart, gateway, about, TIMEOUT) is None
    elif question.outcome is Outcome.CANCELED and wrong != "another key":
        answer = question.ask(counterpart, gateway, about, TIMEOUT)
        assert answer is not None and answer.outcome is Outcome.CANCELED
    else:
        with pytest.raises(Unknown):
            question.ask(counterpart, gateway, about, TIMEOUT)
    assert proxy.fault_was_applied()
    check_outcome(counterpart, question, about)


LATE = [(name, "body") for name in QUESTIONS] + [("charge", fault) for fault in NEVER_ENDING if fault != "body"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "fault"), LATE)
def test_no_response_can_exceed_the_deadline(counterpart: Counterpart, proxy: Proxy, name: str, fault: str) -> None:
    """These responses never end, so only the deadline can end the question. No single read takes long."""
    question = QUESTIONS[name]
    for step in steps(counterpart, proxy, question):
        about = question.prepare(counterpart)
        proxy.set_fault(NEVER_ENDING[fault], step)
        with pytest.raises(Unknown, match="in time"):
            question.ask(counterpart, counterpart.client(proxy.origin), about, 1.0)


# The statement.


def test_a_refused_connection_for_the_statement_is_not_sent(counterpart: Counterpart) -> None:
    with refusing_origin() as origin, pytest.raises(NotSent):
        list(counterpart.client(origin).statement())


@pytest.mark.parametrize("fault", FAULTS)
def test_a_statement_that_breaks_off_is_unknown_and_not_a_shorter_one(
    counterpart: Counterpart, proxy: Proxy, fault: str
) -> None:
    counterpart.client().refund(part_of(counterpart.paid(), REFUNDED), TIMEOUT)
    complete = len(list(counterpart.client().statement()))
    proxy.remove_fault()
    assert len(list(counterpart.client(proxy.origin).statement())) == complete
    for step in range(proxy.requests):
        proxy.set_fault(NO_ANSWER[fault], step)
        with pytest.raises(Unknown):
            list(counterpart.client(proxy.origin).statement())
        assert proxy.fault_was_applied()


@pytest.mark.slow
@pytest.mark.parametrize("fault", SILENT)
def test_a_statement_that_falls_silent_is_unknown(
    counterpart: Counterpart, proxy: Proxy, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counterpart.paid()  # So that the statement is not empty.
    monkeypatch.setattr(client, "STATEMENT_TIMEOUT", 0.3)
    monkeypatch.setattr(transport, "IDLE", 0.3)
    gateway = counterpart.new_client(proxy.origin)
    proxy.set_fault(SILENT[fault])
    with pytest.raises(Unknown):
        list(gateway.statement())
    assert proxy.fault_was_applied()
