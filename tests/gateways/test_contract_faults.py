"""One suite over every gateway: no answer, a wrong answer and a late answer are never taken for an outcome.

A proxy between the client and the true server spoils what comes back (`middleman.py`). Whatever happened on the way,
the same question asked again finds the truth, and money has moved at most once.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from app.gateways.base import Answer, Gateway, NotSent, Outcome, Payment, RefundRequest, Unknown
from tests.gateways import middleman as proxy
from tests.gateways.contract import AMOUNT, COUNTERPARTS, TIMEOUT, Counterpart, part_of, refusing
from tests.gateways.middleman import ERROR, NEVER_ENDING, NO_ANSWER, Middleman, middleman

REFUNDED = 1000


@pytest.fixture(scope="module", params=COUNTERPARTS, ids=[counterpart.name for counterpart in COUNTERPARTS])
def counterpart(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counterpart]:
    with request.param(tmp_path_factory.mktemp(request.param.name)) as counterpart:
        yield counterpart


@pytest.fixture(scope="module")
def one_between(counterpart: Counterpart) -> Iterator[Middleman]:
    with middleman(counterpart.origin) as between:
        yield between


@pytest.fixture
def between(one_between: Middleman) -> Iterator[Middleman]:
    """A proxy in front of the gateway that changes nothing yet."""
    one_between.behave()
    yield one_between
    one_between.behave()


@dataclass(frozen=True)
class Question:
    """One question of the interface about a payment in the state in which the shop asks it."""

    prepare: Callable[[Counterpart], Any]
    """Return what the question is about."""
    ask: Callable[[Counterpart, Gateway, Any, float], Answer | None]
    ends: Outcome
    moves: int = 0
    """Movements of money under its keys in the end. A shopper who then approves adds one, if it waits."""


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


QUICK = {"unheard", "lost", "error 500", "a page"}
FAULTS = [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in NO_ANSWER]


@pytest.fixture(params=QUESTIONS)
def question(request: pytest.FixtureRequest) -> Question:
    return QUESTIONS[request.param]


def payment_of(about: Any) -> Payment:
    return about.payment if isinstance(about, RefundRequest) else about


def steps(counterpart: Counterpart, between: Middleman, question: Question) -> range:
    """Return the numbers of the requests that the question makes."""
    about = question.prepare(counterpart)
    between.behave()
    answer = question.ask(counterpart, counterpart.client(between.origin), about, TIMEOUT)
    assert between.requests and answer and answer.outcome is question.ends
    return range(between.requests)


def check_the_truth(counterpart: Counterpart, question: Question, about: Any) -> None:
    """Ask again, straight: the answer is definite, and money has moved as often as it should."""
    answer = question.ask(counterpart, counterpart.client(), about, TIMEOUT)
    assert answer and answer.outcome is question.ends
    keys = {about.key, payment_of(about).key}
    assert len(counterpart.moved(*keys)) == question.moves
    if answer.outcome is Outcome.REQUIRES_ACTION:
        assert counterpart.shopper(answer, counterpart.approves)
        assert counterpart.moved(*keys) == [("charge", AMOUNT)]


def test_a_refused_connection_is_not_sent(counterpart: Counterpart, question: Question) -> None:
    about = question.prepare(counterpart)
    with refusing() as origin, pytest.raises(NotSent):
        question.ask(counterpart, counterpart.client(origin), about, TIMEOUT)
    check_the_truth(counterpart, question, about)


@pytest.mark.parametrize("fault", FAULTS)
def test_no_answer_is_unknown_and_asking_again_finds_the_truth(
    counterpart: Counterpart, between: Middleman, question: Question, fault: str
) -> None:
    """Each request of the question is spoilt in turn; the others are answered."""
    for step in steps(counterpart, between, question):
        about = question.prepare(counterpart)
        between.spoil(NO_ANSWER[fault], step)
        with pytest.raises(Unknown):
            question.ask(counterpart, counterpart.client(between.origin), about, TIMEOUT)
        assert between.spoilt()
        check_the_truth(counterpart, question, about)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_by_something_on_the_way_is_never_taken_for_never_seen(
    counterpart: Counterpart, between: Middleman, question: Question, status: int
) -> None:
    """A proxy's "not found" must neither end a charge nor fence a key."""
    about = question.prepare(counterpart)
    between.spoil(lambda exchange: exchange.answer(status, ERROR))
    with pytest.raises(Unknown):
        question.ask(counterpart, counterpart.client(between.origin), about, TIMEOUT)
    check_the_truth(counterpart, question, about)


def test_an_answer_that_is_too_large_is_unknown(
    counterpart: Counterpart, between: Middleman, question: Question
) -> None:
    """The answer is the true one but for spaces at its end; one that just fits is read."""
    about = question.prepare(counterpart)
    gateway = counterpart.client(between.origin)
    between.spoil(proxy.padded(counterpart.largest_answer + 1))
    with pytest.raises(Unknown):
        question.ask(counterpart, gateway, about, TIMEOUT)
    between.spoil(proxy.padded(counterpart.largest_answer))
    answer = question.ask(counterpart, gateway, about, TIMEOUT)
    assert answer and answer.outcome is question.ends
    check_the_truth(counterpart, question, about)


LIES: dict[str, Callable[[Any], dict[Any, Any]]] = {
    "another key": lambda about: dict.fromkeys({about.key, payment_of(about).key}, "another"),
    "another amount": lambda about: {AMOUNT: AMOUNT + 1, REFUNDED: REFUNDED + 1},
    "the amount as text": lambda about: {AMOUNT: str(AMOUNT), REFUNDED: str(REFUNDED)},
    "another currency": lambda about: {"EUR": "USD", "eur": "usd"},
}


@pytest.mark.parametrize("lie", LIES)
def test_an_answer_about_something_else_is_unknown(
    counterpart: Counterpart, between: Middleman, question: Question, lie: str
) -> None:
    """A list that holds other keys only says truly that ours is not in it."""
    about = question.prepare(counterpart)
    between.spoil(proxy.lies(LIES[lie](about)))
    gateway = counterpart.client(between.origin)
    if isinstance(about, RefundRequest) and question.prepare is refunded and lie == "another key":
        with suppress(Unknown):
            assert question.ask(counterpart, gateway, about, TIMEOUT) is None
    else:
        with pytest.raises(Unknown):
            question.ask(counterpart, gateway, about, TIMEOUT)
    assert between.spoilt()
    check_the_truth(counterpart, question, about)


LATE = [(name, "body") for name in QUESTIONS] + [("charge", fault) for fault in NEVER_ENDING if fault != "body"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "fault"), LATE)
def test_no_manner_of_answering_outlasts_the_deadline(
    counterpart: Counterpart, between: Middleman, name: str, fault: str
) -> None:
    """These answers never end, so the question ends only by its deadline. No single read of them is ever late."""
    question = QUESTIONS[name]
    for step in steps(counterpart, between, question):
        about = question.prepare(counterpart)
        between.spoil(NEVER_ENDING[fault], step)
        with pytest.raises(Unknown, match="in time"):
            question.ask(counterpart, counterpart.client(between.origin), about, 1.0)


# The statement.


def test_a_statement_of_nobody_is_not_sent(counterpart: Counterpart) -> None:
    with refusing() as origin, pytest.raises(NotSent):
        list(counterpart.client(origin).statement())


@pytest.mark.parametrize("fault", FAULTS)
def test_a_statement_that_breaks_off_is_unknown_and_never_a_short_one(
    counterpart: Counterpart, between: Middleman, fault: str
) -> None:
    counterpart.client().refund(part_of(counterpart.paid(), REFUNDED), TIMEOUT)
    whole = len(list(counterpart.client().statement()))
    between.behave()
    assert len(list(counterpart.client(between.origin).statement())) == whole
    for step in range(between.requests):
        between.spoil(NO_ANSWER[fault], step)
        with pytest.raises(Unknown):
            list(counterpart.client(between.origin).statement())
        assert between.spoilt()
