"""A gateway for the tests of the protocol. It gives scripted answers and keeps what it was asked."""

from collections.abc import Callable, Iterator
from threading import Lock
from typing import Any

from app.gateways.base import Answer, Card, NotSent, Outcome, Payment, RefundRequest, StatementEntry, Unknown

APPROVED = Answer(Outcome.SUCCEEDED)
NEEDS_SHOPPER = Answer(Outcome.REQUIRES_ACTION, action_url="http://bank/page")
DECLINED = Answer(Outcome.DECLINED, reason="card_declined")
LOST = Unknown("the answer was lost")
NO_USE = Unknown("the gateway repeats a failure", again=False)
REFUSED = Answer(Outcome.CANCELED, reason="not_activated", this_request_only=True, message="activate", request_id="r1")
NOT_SENT = NotSent("no connection")


class ScriptedGateway:
    """Return the answers of `script` in order, or raise them if they are exceptions. The last one is repeated.

    Without a script, every charge succeeds. `asked` are the payments so far. `meanwhile` is called during each
    question, after the payment was added to `asked`.
    """

    name = "scripted"
    account = "test"
    takes_cards = True
    page_origin = None

    def __init__(self, *script: Any, meanwhile: Callable[[], None] = lambda: None) -> None:
        self.script, self.meanwhile = list(script) or [APPROVED], meanwhile
        self.asked: list[Payment] = []
        self._lock = Lock()

    def charge(self, payment: Payment, card: Card | None, timeout: float) -> Answer:
        assert timeout >= 0
        with self._lock:
            self.asked.append(payment)
            answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        self.meanwhile()
        if isinstance(answer, Exception):
            raise answer
        return Answer(**vars(answer))

    @property
    def keys(self) -> list[str]:
        """Return the keys of the payments in `asked`."""
        return [payment.key for payment in self.asked]

    def lookup(self, payment: Payment, timeout: float) -> Answer | None:
        raise LOST

    def cancel(self, payment: Payment, timeout: float) -> Answer:
        raise LOST

    def refund(self, refund_request: RefundRequest, timeout: float) -> Answer:
        raise LOST

    def lookup_refund(self, refund_request: RefundRequest, timeout: float) -> Answer | None:
        raise LOST

    def statement(self) -> Iterator[StatementEntry]:
        return iter(())
