"""How far recovery is: what is left, how old it is, and what the workers have done. Read by /metrics and `recover`."""

from collections.abc import Callable
from time import monotonic
from typing import Any, NamedTuple

import structlog
from sqlalchemy import Integer, String, bindparam, select, text
from sqlalchemy.dialects import postgresql, sqlite

from app import measures
from app.charges.models import AuditRun, RecoveryCount
from app.charges.states import PENDING, REFUND_PENDING, sql_list
from app.database import UtcDateTime, from_now, reading, table, transaction

PAUSE = 10.0
"""Seconds between two writes of one loop at least."""

# The conditions are those of partial indexes, because this is read at each scrape.
OPEN = text(f"""
    SELECT 'charges' AS kind, status, count(*) AS number, min(created_at) AS since FROM charge
    WHERE status IN ({sql_list(PENDING)}) GROUP BY status
    UNION ALL
    SELECT 'refunds', status, count(*), min(created_at) FROM refund
    WHERE status IN ({sql_list(REFUND_PENDING)}) GROUP BY status
    UNION ALL
    SELECT 'emails', 'owed', count(*), min(c.ended_at) FROM outbox_email e JOIN charge c ON c.id = e.charge_id
    WHERE e.sent_at IS NULL AND e.gave_up_at IS NULL HAVING count(*) > 0
""").columns(kind=String(), status=String(), number=Integer(), since=UtcDateTime())

counts, audits = table(RecoveryCount), table(AuditRun)
log = structlog.get_logger()


def _count(insert: Callable[..., Any]) -> Any:
    new = insert(counts).values(
        kind=bindparam("kind"), result=bindparam("result"), total=bindparam("more"), counted_at=from_now(0)
    )
    sums = {"total": counts.c.total + new.excluded.total, "counted_at": new.excluded.counted_at}
    return new.on_conflict_do_update(index_elements=[counts.c.kind, counts.c.result], set_=sums)


def _audited(insert: Callable[..., Any]) -> Any:
    new = insert(audits).values(
        id=1, ended_at=from_now(0), seconds=bindparam("seconds"), broken=bindparam("broken")
    )  # fmt: skip
    names = ("ended_at", "seconds", "broken")
    return new.on_conflict_do_update(index_elements=[audits.c.id], set_={name: new.excluded[name] for name in names})


INSERTS = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}
COUNT = {name: _count(insert) for name, insert in INSERTS.items()}
AUDITED = {name: _audited(insert) for name, insert in INSERTS.items()}


class Left(NamedTuple):
    """Rows that have not ended yet. `age`: seconds since the oldest was created; for e-mails, since it was owed."""

    kind: str
    status: str
    number: int
    age: float


class Done(NamedTuple):
    """What all workers have done since the installation. `age`: seconds since it was last counted."""

    kind: str
    result: str
    total: int
    age: float


class Audited(NamedTuple):
    """The last audit: how long ago it ended, how long it took (seconds), and how many invariants it found broken."""

    age: float
    seconds: float
    broken: int


def left() -> list[Left]:
    """Return what is open, per kind and status. Raises Unreachable."""
    with reading() as tx:
        now = tx.execute(select(from_now(0))).scalar_one()
        return [Left(row.kind, row.status, row.number, _age(now, row.since)) for row in tx.execute(OPEN)]


def in_words(found: list[Left]) -> str:
    """Return what is left as a person reads it."""
    words = [f"{each.number:,} {each.kind} {each.status} (oldest {each.age:,.0f} s)" for each in found]
    return f"Left: {', '.join(words)}." if words else "Nothing is left."


def done() -> list[Done]:
    """Return what the workers have counted. Raises Unreachable."""
    with reading() as tx:
        now = tx.execute(select(from_now(0))).scalar_one()
        return [Done(row.kind, row.result, row.total, _age(now, row.counted_at)) for row in tx.execute(select(counts))]


def last_audit() -> Audited | None:
    """Return the last audit, or None. Raises Unreachable."""
    with reading() as tx:
        now = tx.execute(select(from_now(0))).scalar_one()
        row = tx.execute(select(audits)).first()
        return Audited(_age(now, row.ended_at), row.seconds, row.broken) if row else None


def _age(now: Any, since: Any) -> float:
    return float((now - since).total_seconds()) if since else 0.0


def note_audit(seconds: float, broken: int) -> None:
    """Store the result of an audit that has ended. Never raises: the audit's own output is what counts."""
    try:
        with transaction() as tx:
            tx.execute(AUDITED[tx.dialect.name], {"seconds": seconds, "broken": broken})
    except Exception as error:
        log.warning("audit_not_noted", reason=type(error).__name__)


class Progress:
    """Stores and logs what the passes of one loop do. Its `kind` is the loop's name."""

    def __init__(self, kind: str) -> None:
        self._kind, self._processed, self._written_at = kind, 0, 0.0
        self._counted, self._begun = self._outcomes(), False

    def passed(self, processed: int) -> None:
        """Note one pass. Write if the last writing was PAUSE ago. Never raises."""
        self._processed += processed
        if monotonic() - self._written_at < PAUSE:
            return
        try:
            self.write()
        except Exception as error:
            log.warning("progress_not_noted", loop=self._kind, reason=type(error).__name__)

    def write(self) -> None:
        """Store what was done since the last writing. Log it with what is left, if there is any. Raises Unreachable."""
        self._written_at = monotonic()
        counted = self._outcomes()
        more = {"processed": float(self._processed)} | {
            outcome: total - self._counted.get(outcome, 0.0) for outcome, total in counted.items()
        }
        with transaction() as tx:
            for result, number in more.items():
                if number or result == "processed" or not self._begun:  # From 0, so that a first rise is seen.
                    tx.execute(COUNT[tx.dialect.name], {"kind": self._kind, "result": result, "more": int(number)})
        self._log()
        self._processed, self._counted, self._begun = 0, counted, True

    def _outcomes(self) -> dict[str, float]:
        return {outcome: total for (kind, outcome), total in measures.outcomes().items() if kind == self._kind}

    def _log(self) -> None:
        open_rows = [each for each in left() if each.kind == self._kind]
        if self._processed or open_rows:
            number, age = sum(each.number for each in open_rows), max((each.age for each in open_rows), default=0.0)
            log.info(
                "recovery_passed", loop=self._kind, processed=self._processed, left=number, oldest_seconds=round(age)
            )
