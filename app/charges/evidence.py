"""What a person needs later to see what happened to a payment: arrivals of its forms, and questions to the gateway.

Writing it never fails or delays a payment: what can't be written is dropped with a log line. Rows name
the charge by its key, without a foreign key: they need no lock, and they stay true after a restore.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import structlog
from sqlalchemy import bindparam, delete, insert, select
from sqlalchemy.engine import Connection
from structlog.contextvars import bound_contextvars

from app.charges.models import ArrivalRow, QuestionRow
from app.charges.rows import ChargeSnapshot
from app.database import Unreachable, table, transaction
from app.gateways.questions import Question, collected

KEPT = 10
"""Of the questions about one charge, this many of the first and of the latest are kept."""

arrivals, questions = table(ArrivalRow), table(QuestionRow)
OF_CHARGE = select(questions.c.id).where(questions.c.charge_key == bindparam("of_key"))
PRUNE = delete(questions).where(
    questions.c.charge_key == bindparam("of_key"),
    questions.c.id > OF_CHARGE.order_by(questions.c.id).offset(KEPT - 1).limit(1).scalar_subquery(),
    questions.c.id < OF_CHARGE.order_by(questions.c.id.desc()).offset(KEPT - 1).limit(1).scalar_subquery(),
)

log = structlog.get_logger()


class Arrival(NamedTuple):
    """One form that arrived for a charge. `answer` says what its sender was told.

    `browser` is the family only, and `network` is a shortened address, because more is not needed.
    """

    charge_key: UUID
    arrived_at: datetime
    request_id: str | None
    browser: str
    network: str
    answer: str


class Evidence(NamedTuple):
    """What one request or one step of recovery leaves. `asked_by` is "request", "recovery" or "command"."""

    asked_by: str
    questions: Sequence[Question]
    arrivals: Sequence[Arrival] = ()


def about(charge: ChargeSnapshot) -> AbstractContextManager[None]:
    """Add the id of the request that claimed the charge to log lines and to questions to the gateway."""
    return bound_contextvars(request_id=charge.request_id, receipt=charge.receipt_id)


@contextmanager
def kept(asked_by: str) -> Iterator[None]:
    """Store the questions that this thread asks inside the block when it ends. If the database is away, drop them."""
    with collected() as asked:
        try:
            yield
        except Unreachable:
            asked.clear()
            raise
        finally:
            store([Evidence(asked_by, asked)])


def store(found: Sequence[Evidence]) -> None:
    """Write everything in one transaction. Never raises."""
    asked = [_question(each, by) for by, several, _ in found for each in several]
    arrived = [each._asdict() for evidence in found for each in evidence.arrivals]
    if not asked and not arrived:
        return
    try:
        with transaction() as tx:
            _insert(tx, asked, arrived)
    except Exception as error:
        log.warning("evidence_lost", questions=len(asked), arrivals=len(arrived), reason=type(error).__name__)


def _insert(connection: Connection, asked: list[dict[str, Any]], arrived: list[dict[str, Any]]) -> None:
    if arrived:
        connection.execute(insert(arrivals), arrived)
    if asked:
        connection.execute(insert(questions), asked)
    # The first question about a charge leaves nothing to prune, and it is the usual one.
    for key in {each["charge_key"] for each in asked if each["kind"] != "charge"}:
        connection.execute(PRUNE, {"of_key": key})


def _question(asked: Question, by: str) -> dict[str, Any]:
    request_id, note = asked.provider_request_id, asked.note
    short = {"provider_request_id": request_id and request_id[:100], "note": note and note[:200].replace("\x00", "")}
    return asked._asdict() | short | {"asked_by": by}
