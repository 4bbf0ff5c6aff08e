"""A small bank for simulations. It can ignore keys, and its connection can fail.

Above it, the program's own protocol, recovery, refunds, webhooks and audit run; the audit reads this bank's statement.
The bank replaces the sandbox bank and the program's HTTP client, so it proves nothing about either: there are no
sockets, no time-outs in real time, and no requests in the bank's own format. A question is one step, so two questions
never overlap at the bank. It behaves as the program expects of a gateway. `tests/gateways/test_contract.py` checks that
the real gateways behave in the same way. A webhook is a finished event here, so its signature and parsing do not run.

The schedule decides what happens to each question (its *fate*):

    ok        the question arrives, and so does the answer
    lost      the question arrives, the answer does not (a time-out, a cut connection, a 500 after the money was taken)
    late      no answer; the network holds the question back and delivers it at any later step
    before    a 500 before anything was done
    refused   the connection could not be opened
"""

from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from app.gateways.base import (
    Answer,
    Card,
    EventSubject,
    GatewayDispute,
    GatewayEvent,
    GatewayRefund,
    NotSent,
    Outcome,
    Payment,
    RefundRequest,
    StatementEntry,
    Unknown,
)

APPROVES, DECLINES, NEEDS_CONFIRMATION, UNTRUE_DECLINE = (
    "4242424242424242",
    "4000000000000002",
    "4000002500003155",
    "0000",
)
"""Cards. UNTRUE_DECLINE is not one of the shop's test cards: the bank says declined but takes the money."""

BY_CARD = {
    APPROVES: Answer(Outcome.SUCCEEDED), DECLINES: Answer(Outcome.DECLINED),
    NEEDS_CONFIRMATION: Answer(Outcome.REQUIRES_ACTION, action_url="http://bank/"),
    UNTRUE_DECLINE: Answer(Outcome.DECLINED),
}  # fmt: skip
NO_ANSWER = "no answer"


class Question(NamedTuple):
    """A request to the bank. The network can hold it back."""

    verb: str
    key: str
    amount: int = 0
    card: str = ""
    payment: str = ""
    """The key of the payment, if this is a refund."""


@dataclass
class Bank:
    """The bank's records: the outcome of each key, and every movement of money."""

    honours_keys: bool = True
    fences: bool = True
    """True if a canceled key can never take money. False only for a broken bank."""
    outcomes: dict[str, Answer] = field(default_factory=dict)
    moved: list[Question] = field(default_factory=list)
    waiting: dict[str, Question] = field(default_factory=dict)
    """Payments that wait for the shopper on the bank's page, by key."""
    held: list[Question] = field(default_factory=list)
    """Questions that have not arrived yet. Two equal ones are kept as one, because the second would change nothing."""

    def copy(self) -> "Bank":
        books = dict(self.outcomes), list(self.moved), dict(self.waiting), list(self.held)
        return Bank(self.honours_keys, self.fences, *books)

    def hold_back(self, question: Question) -> None:
        if question not in self.held:
            insort(self.held, question)

    def arrive(self, question: Question) -> Answer:
        """Do what the question asks for, and return the answer."""
        return {"charge": self._charge, "cancel": self._cancel, "refund": self._refund}[question.verb](question)

    def _charge(self, question: Question) -> Answer:
        known = self.outcomes.get(question.key)
        if known and (self.honours_keys or known.outcome is Outcome.CANCELED):
            return known
        answer = BY_CARD[question.card]
        if answer.outcome is Outcome.SUCCEEDED or question.card == UNTRUE_DECLINE:
            self._take(question)
        if answer.outcome is Outcome.REQUIRES_ACTION:
            self.waiting[question.key] = question
        self.outcomes[question.key] = answer
        return answer

    def _take(self, question: Question) -> None:
        self.moved.append(question._replace(card=""))

    def _cancel(self, question: Question) -> Answer:
        known = self.outcomes.get(question.key)
        if known and known.outcome is not Outcome.REQUIRES_ACTION:
            return known
        canceled = Answer(Outcome.CANCELED)
        if self.fences or known:
            self.outcomes[question.key] = canceled
        return canceled

    def _refund(self, question: Question) -> Answer:
        if not self.honours_keys or question.key not in self.outcomes:
            self._take(question)
            self.outcomes[question.key] = Answer(Outcome.SUCCEEDED)
        return self.outcomes[question.key]

    def visit(self, key: str, *, confirm: bool) -> None:
        """Confirm or refuse on the bank's page, as the shopper."""
        known = self.outcomes.get(key)
        if known and known.outcome is Outcome.REQUIRES_ACTION:
            self.outcomes[key] = Answer(Outcome.SUCCEEDED if confirm else Outcome.DECLINED)
            if confirm:
                self._take(self.waiting[key])

    def confirm_all(self) -> None:
        """Confirm every payment that ever waited for its shopper."""
        for key in self.waiting:
            self.visit(key, confirm=True)

    def correct_answers(self) -> None:
        """Correct the bank's wrong answers: it called these keys declined, but it took money for them."""
        self.outcomes.update({key: Answer(Outcome.SUCCEEDED) for key in self.taken()})

    def events(self) -> Iterator[GatewayEvent]:
        """Yield every event that the bank repeats until it is accepted."""
        return (event(key, self.outcomes[key]) for key in self.taken())

    def taken(self) -> Counter[str]:
        """Return how often money was taken, by key."""
        return Counter(question.key for question in self.moved if question.verb == "charge")

    def statement(self) -> Iterator[StatementEntry]:
        for question in self.moved:
            payment = question.payment or question.key
            yield StatementEntry(question.key, question.verb, question.amount, "EUR", datetime.now(UTC), None, payment)

    def state(self) -> object:
        """Return everything that decides the bank's future answers, and what it did."""
        outcomes = sorted((key, answer.outcome) for key, answer in self.outcomes.items())
        return outcomes, sorted(self.moved), sorted(self.waiting), sorted(self.held)


class SimulatedGateway:
    """The shop's `Gateway`. Every question is a step of the schedule; `step` returns its fate."""

    name, account, takes_cards, page_origin = "sandbox", "simulation", True, None

    def __init__(self, bank: Callable[[], Bank], step: Callable[[str, str], str]) -> None:
        self._bank, self._step = bank, step

    def charge(self, payment: Payment, card: Card | None, timeout: float) -> Answer:
        assert card is not None
        return self._ask(Question("charge", payment.key, payment.amount, card.number))

    def cancel(self, payment: Payment, timeout: float) -> Answer:
        return self._ask(Question("cancel", payment.key))

    def refund(self, refund_request: RefundRequest, timeout: float) -> Answer:
        return self._ask(
            Question("refund", refund_request.key, refund_request.amount, payment=refund_request.payment.key)
        )

    def lookup(self, payment: Payment, timeout: float) -> Answer | None:
        return self._look(payment.key)

    def lookup_refund(self, refund_request: RefundRequest, timeout: float) -> Answer | None:
        return self._look(refund_request.key)

    def statement(self) -> Iterator[StatementEntry]:
        return self._bank().statement()

    def key_of(self, event: GatewayEvent, timeout: float) -> str | None:
        return event.key

    def refunds_of(self, payment: Payment, timeout: float) -> list[GatewayRefund]:
        return []

    def disputes_of(self, payment: Payment, timeout: float) -> list[GatewayDispute]:
        return []

    def read_event(self, body: bytes, headers: object) -> GatewayEvent:
        raise NotImplementedError

    def of(self, name: str, account: str) -> "SimulatedGateway":
        """Return this gateway, because there is no other. Recovery asks for the gateway of each charge."""
        return self

    def _ask(self, question: Question) -> Answer:
        fate, bank = self._step("bank", question.verb), self._bank()
        if fate == "refused":
            raise NotSent(NO_ANSWER)
        if fate == "late":
            bank.hold_back(question)
        if fate in {"late", "before"}:
            raise Unknown(NO_ANSWER)
        answer = bank.arrive(question)
        if fate == "lost":
            raise Unknown(NO_ANSWER)
        return answer

    def _look(self, key: str) -> Answer | None:
        if self._step("look", "lookup") == "lost":
            raise Unknown(NO_ANSWER)
        return self._bank().outcomes.get(key)


def event(key: str, answer: Answer) -> GatewayEvent:
    """Return the event that the bank sends after something has happened under this key."""
    return GatewayEvent(
        f"event {key} {answer.outcome}", "payment", EventSubject.PAYMENT, datetime(2030, 1, 1, tzinfo=UTC), key=key
    )
