"""The shop's database in a simulation: SQLite in memory, with a clock that the simulation sets.

The schema is that of the program's models, with its constraints and triggers. The program's own transactions and SQL
statements run on it, in SQLite's dialect. The database is saved and restored in microseconds, so that thousands of
schedules can start from the same moment. There is one connection, so a whole transaction is one atomic step. A
transaction can fail to begin, and the answer to a COMMIT that has happened can be lost.

The database can go back to a copy of itself: a backup, or a standby that lags behind (`keep`, `go_back`). With
`replicate`, the copy is a synchronous standby: it has everything up to the last COMMIT that waited for it and
returned. Only a transaction that wrote or locked a row waits, as on PostgreSQL.

It does not show: other transactions between the statements of one transaction, locks and isolation levels of
PostgreSQL, a database that does not answer, a COMMIT that takes effect after its connection was lost, and migrations.
"""

import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import create_engine, event
from sqlalchemy.pool import StaticPool

import app.charges.models
import app.ledger.models
import app.mail.models
import app.orders.models
import app.webhooks.models  # noqa: F401
from app.database import Base
from app.engines import prepare_sqlite

EPOCH = datetime(2030, 1, 1)  # noqa: DTZ001 - SQLite's own strftime returns no zone either
STAMP = "%Y-%m-%d %H:%M:%S.%f"

PENDING = {
    "charge": "status IN ('processing', 'requires_action', 'in_doubt')",
    "refund": "status IN ('processing', 'in_doubt')",
}
"""The rows that recovery is responsible for, by table."""


class LossyConnection(sqlite3.Connection):
    """A connection that can lose the answer to a COMMIT."""

    lose_answer = False
    """True if the next COMMIT happens but its answer is lost."""
    locked = False
    """True if the transaction has asked for the lock of a row. SQLite has no such locks."""
    changes_before = 0
    confirm: Callable[[], None] | None = None
    """Is called after each COMMIT that PostgreSQL would have let wait for a standby, and whose answer was not lost."""

    def begin(self, *, lose_answer: bool) -> None:
        """Prepare for a transaction."""
        self.lose_answer, self.locked, self.changes_before = lose_answer, False, self.total_changes

    def commit(self) -> None:
        super().commit()
        if self.lose_answer:
            self.lose_answer = False
            raise sqlite3.OperationalError("the connection broke after COMMIT was sent")
        if self.confirm and (self.locked or self.total_changes != self.changes_before):
            self.confirm()


def program_schema() -> list[str]:
    """Return the statements that create the schema of the models: tables, indexes and triggers."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    with engine.connect() as connection:
        made = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid").all()
    engine.dispose()
    return [sql for (sql,) in made]


class Saved(NamedTuple):
    """Everything that `Storage.restore` brings back."""

    data: bytes
    clock: float
    copy: bytes | None
    times_gone_back: int
    replicates: bool


class Storage:
    """One database and its clock. `change` can change each statement of the schema; "" removes it."""

    def __init__(self, change: Callable[[str], str] = lambda sql: sql) -> None:
        self.clock = 0.0
        """Seconds since the start of the simulation."""
        self.connection = self._open()
        for statement in filter(None, map(change, program_schema())):
            self.connection.execute(statement)
        self.engine = create_engine("sqlite://", creator=lambda: self.connection, poolclass=StaticPool)
        prepare_sqlite(self.engine)
        event.listen(self.engine, "before_execute", self._note_lock)
        self.copy: bytes | None = None
        """The database that `go_back` returns to."""
        self.times_gone_back = 0
        self._copied: tuple[bytes | None, LossyConnection] = None, self._open()

    def _open(self) -> LossyConnection:
        connection = sqlite3.connect(":memory:", factory=LossyConnection, isolation_level=None)
        connection.execute("PRAGMA page_size = 1024")
        connection.create_function("strftime", 3, self._strftime)
        return connection

    def _strftime(self, _format: str, _now: str, modifier: str | None) -> str | None:
        """Replace SQLite's strftime: return our "now" plus the modifier's seconds, with milliseconds."""
        return modifier and self.at(self.clock + float(modifier.split()[0]))[:-3]

    @staticmethod
    def at(seconds: float) -> str:
        """Return this moment as the database writes it."""
        return (EPOCH + timedelta(seconds=seconds)).strftime(STAMP)

    def since(self, stamp: str) -> float:
        """Return the seconds from now to a moment that the database wrote."""
        return (datetime.strptime(stamp, STAMP) - EPOCH).total_seconds() - self.clock  # noqa: DTZ007

    def _note_lock(self, _connection: object, statement: object, *_rest: object) -> None:
        self.connection.locked |= getattr(statement, "_for_update_arg", None) is not None

    def rows(self, sql: str, *values: Any) -> list[Any]:
        """Run a statement outside of the program, which is no step, and return its rows."""
        return self.connection.execute(sql, values).fetchall()

    def rows_of_copy(self, sql: str, *values: Any) -> list[Any]:
        """Run a statement on the copy and return its rows. There is nothing in it if there is no copy."""
        if self.copy is None:
            return []
        loaded, connection = self._copied
        if loaded is not self.copy:
            connection.deserialize(self.copy)
            self._copied = self.copy, connection
        return connection.execute(sql, values).fetchall()

    def keep(self) -> None:
        """Copy the database as it is now."""
        self.copy = self.connection.serialize()

    def replicate(self) -> None:
        """From now on, the copy is a synchronous standby."""
        self.keep()
        self.connection.confirm = self.keep

    def go_back(self) -> None:
        """Put the copy in the place of the database. Its clock continues."""
        assert self.copy is not None
        self.connection.deserialize(self.copy)
        self.connection.confirm, self.copy = None, None
        self.times_gone_back += 1

    def until_due(self, table: str) -> None:
        """Advance the clock until recovery can ask about a row of this table. Do nothing if no row is pending."""
        (first,) = self.rows(f"SELECT min(ask_at) FROM {table} WHERE {PENDING[table]}")[0]
        if first is not None:
            self.clock += max(0.0, self.since(first))

    def save(self) -> Saved:
        return Saved(
            self.connection.serialize(),
            self.clock,
            self.copy,
            self.times_gone_back,
            self.connection.confirm is not None,
        )

    def restore(self, saved: Saved) -> None:
        self.connection.deserialize(saved.data)
        self.clock, self.copy, self.times_gone_back = saved.clock, saved.copy, saved.times_gone_back
        self.connection.confirm = self.keep if saved.replicates else None

    def close(self) -> None:
        self.engine.dispose()
        self.connection.close()
        self._copied[1].close()
