"""Questions to the gateways and their answers: measured in the clients, and collected for evidence."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import wraps
from time import perf_counter
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from app import measures
from app.gateways.base import Contradiction, NotSent, Payment, RefundRequest, Unknown

Method = TypeVar("Method", bound=Callable[..., Any])


class Question(NamedTuple):
    """One question to a gateway. `result` is the outcome, "not_found", "not_sent", "unknown" or "contradiction".

    `asked_at` is this host's time in UTC. `provider_request_id` is the gateway's own id, if it gave one.
    """

    charge_key: UUID
    refund_key: UUID | None
    kind: str
    asked_at: datetime
    seconds: float
    result: str
    provider_request_id: str | None
    note: str | None


_collected: ContextVar[list[Question] | None] = ContextVar("questions", default=None)


@contextmanager
def collected() -> Iterator[list[Question]]:
    """Collect the questions that this thread asks inside the block."""
    questions: list[Question] = []
    token = _collected.set(questions)
    try:
        yield questions
    finally:
        _collected.reset(token)


def question(method: Method) -> Method:
    """Measure a question to a gateway: its kind is the method's name. The answer or exception stays as it is."""

    @wraps(method)
    def ask(self: Any, about: Payment | RefundRequest, *args: Any) -> Any:
        asked_at, started = datetime.now(UTC), perf_counter()
        try:
            answer = method(self, about, *args)
        except (NotSent, Unknown) as doubt:
            _note(self.name, method.__name__, about, asked_at, perf_counter() - started, doubt)
            raise
        _note(self.name, method.__name__, about, asked_at, perf_counter() - started, answer)
        return answer

    return ask  # type: ignore[return-value]


def _note(
    gateway: str, kind: str, about: Payment | RefundRequest, asked_at: datetime, seconds: float, answer: Any
) -> None:
    result = _result(answer)
    measures.QUESTION_SECONDS.labels(gateway, kind, result).observe(seconds)
    questions = _collected.get()
    if questions is None:
        return
    payment, refund_key = (about.payment, about.key) if isinstance(about, RefundRequest) else (about, None)
    note = str(answer) if isinstance(answer, Exception) else getattr(answer, "reason", None)
    request_id = getattr(answer, "request_id", None)
    keys = UUID(payment.key), UUID(refund_key) if refund_key else None
    questions.append(Question(*keys, kind, asked_at, seconds, result, request_id, note))


def _result(answer: Any) -> str:
    if answer is None:
        return "not_found"
    if isinstance(answer, NotSent):
        return "not_sent"
    if isinstance(answer, Unknown):
        return "contradiction" if isinstance(answer, Contradiction) else "unknown"
    return str(answer.outcome)
