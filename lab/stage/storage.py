"""The shop's database in a simulation: SQLite in memory, with a clock that the simulation sets.

The schema is that of the program's models, with its constraints and triggers. The program's own transactions and SQL
statements run on it, in SQLite's dialect. The database is saved and restored in microseconds, so that thousands of
schedules can start from the same moment. There is one connection, so a whole transaction is one atomic step. A
transaction can fail to begin, and the answer to a COMMIT that has happened can be lost.

It does not show: other transactions between the statements of one transaction, locks and isolation levels of
PostgreSQL, a database that does not answer, a COMMIT that takes effect after its connection was lost, restores,
failovers and migrations.
"""

import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import create_engine
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

    def commit(self) -> None:
        super().commit()
        if self.lose_answer:
            self.lose_answer = False
            raise sqlite3.OperationalError("the connection broke after COMMIT was sent")


def program_schema() -> list[str]:
    """Return the statements that create the schema of the models: tables, indexes and triggers."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    with engine.connect() as connection:
        made = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid").all()
    engine.dispose()
    return [sql for (sql,) in made]


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

    def _open(self) -> LossyConnection:
        connection = sqlite3.connect(":memory:", factory=LossyConnection, isolation_level=None)
        connection.execute("PRAGMA page_size = 1024")
        connection.create_function("strftime", 3, self._strftime)
        return connection

    def _strftime(self, _format: str, _now: str, modifier: str) -> str:
        """Replace SQLite's strftime: return our "now" plus the modifier's seconds, with milliseconds."""
        return self.at(self.clock + float(modifier.split()[0]))[:-3]

    @staticmethod
    def at(seconds: float) -> str:
        """Return this moment as the database writes it."""
        return (EPOCH + timedelta(seconds=seconds)).strftime(STAMP)

    def since(self, stamp: str) -> float:
        """Return the seconds from now to a moment that the database wrote."""
        return (datetime.strptime(stamp, STAMP) - EPOCH).total_seconds() - self.clock  # noqa: DTZ007

    def rows(self, sql: str, *values: Any) -> list[Any]:
        """Run a statement outside of the program, which is no step, and return its rows."""
        return self.connection.execute(sql, values).fetchall()

    def until_due(self, table: str) -> None:
        """Advance the clock until recovery can ask about a row of this table. Do nothing if no row is pending."""
        (first,) = self.rows(f"SELECT min(ask_at) FROM {table} WHERE {PENDING[table]}")[0]
        if first is not None:
            self.clock += max(0.0, self.since(first))

    def save(self) -> tuple[bytes, float]:
        return self.connection.serialize(), self.clock

    def restore(self, saved: tuple[bytes, float]) -> None:
        data, self.clock = saved
        self.connection.deserialize(data)

    def close(self) -> None:
        self.engine.dispose()
        self.connection.close()
