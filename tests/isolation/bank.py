"""The bank of the isolation tests. It replaces a real gateway: what is tested here is the database."""

from collections.abc import Callable, Mapping
from threading import current_thread
from typing import Any

from app.gateways.base import Answer, Card, GatewayDispute, GatewayEvent, GatewayRefund, Outcome, Payment, RefundRequest
from tests.charges.gateways import APPROVED, ScriptedGateway

CANCELED = Answer(Outcome.CANCELED)


class Bank(ScriptedGateway):
    """A scripted bank that honours keys: each has one outcome, and a canceled key never takes money.

    `asked_by` lists which actor asked for money, and under which key. `known` holds the outcomes of keys from earlier.
    `gate` is called before each question, with a word for it.
    """

    def __init__(self, *script: Any, known: Mapping[str, Answer] | None = None) -> None:
        super().__init__(*script)
        self.outcomes: dict[str, Answer] = dict(known or {})
        self.gate: Callable[[str], None] = lambda question: None
        self.asked_by: list[tuple[str, str]] = []
        self.refunds_taken: dict[str, int] = {}
        self.refund_outcomes: dict[str, Answer] = {}
        self.by_hand: list[GatewayRefund] = []

    def charge(self, payment: Payment, card: Card | None, timeout: float) -> Answer:
        self.gate("ask the bank")
        self.asked_by.append((current_thread().name, payment.key))
        if payment.key not in self.outcomes:
            self.outcomes[payment.key] = super().charge(payment, card, timeout)
        return self.outcomes[payment.key]

    def lookup(self, payment: Payment, timeout: float) -> Answer | None:
        self.gate("look at the bank")
        return self.outcomes.get(payment.key)

    def cancel(self, payment: Payment, timeout: float) -> Answer:
        self.gate("cancel at the bank")
        known = self.outcomes.get(payment.key)
        if known is None or known.outcome is Outcome.REQUIRES_ACTION:
            self.outcomes[payment.key] = CANCELED
        return self.outcomes[payment.key]

    def refund(self, refund_request: RefundRequest, timeout: float) -> Answer:
        self.gate("refund at the bank")
        answer = self.refund_outcomes.setdefault(refund_request.key, APPROVED)
        self.refunds_taken[refund_request.key] = refund_request.amount if answer is APPROVED else 0
        return answer

    def lookup_refund(self, refund_request: RefundRequest, timeout: float) -> Answer | None:
        self.gate("look for the refund at the bank")
        return self.refund_outcomes.get(refund_request.key)

    def key_of(self, event: GatewayEvent, timeout: float) -> str | None:
        return event.key

    def refunds_of(self, payment: Payment, timeout: float) -> list[GatewayRefund]:
        return self.by_hand

    def disputes_of(self, payment: Payment, timeout: float) -> list[GatewayDispute]:
        return []

    @property
    def paid(self) -> set[str]:
        """Return the keys under which money was taken."""
        return {key for key, answer in self.outcomes.items() if answer.outcome is Outcome.SUCCEEDED}
