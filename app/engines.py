"""How connections to PostgreSQL and SQLite are opened, tested and dropped."""

import os
import re
import sqlite3
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

import psycopg2
from psycopg2 import extensions
from sqlalchemy import event, text
from sqlalchemy.engine import Connection, Engine, ExceptionContext, make_url
from sqlalchemy.exc import DisconnectionError, InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry

from app import watchdog

IDLE = 0.2
"""Seconds after which a pooled connection to PostgreSQL is tested before it is used again."""

CLOSE_AFTER = 60.0
"""Seconds after which an unused connection to PostgreSQL is closed, so that others can have its place."""

POOL = 20
"""Connections of one process at most. Threads that wait for a gateway hold none, so few are enough."""

OTHERS = 10
"""Connections that recovery, the audit, migrations and an operator need besides the shop's workers."""

ANSWER = 11.0
"""Seconds in which PostgreSQL must answer a statement: a little longer than its own `statement_timeout`."""

CONNECT = 5
"""Seconds in which PostgreSQL must accept a connection."""


NO_PLACE = re.compile("too many (clients|connections)|connection slots are reserved|no more connections allowed")
"""What PostgreSQL or pgbouncer says when all its connections are taken. The driver reports no SQLSTATE for it."""

NO_TABLE = re.compile("no such (table|column)")
"""What SQLite says if the database was not migrated. PostgreSQL's error has a class of its own, ProgrammingError."""

UNUSABLE = {"25006", "25P03"}
"""SQLSTATEs of a server that can't be written to (a standby) or that has ended our idle transaction."""


class Driver(extensions.connection):
    """A connection of psycopg2 that breaks if the server does not answer in time.

    psycopg2 itself waits without any limit. A COMMIT has a limit of its own, in `database.py`.
    """

    patient = False
    """Whether statements may take any time, until a rollback. The pool rolls back before it lends it again."""

    def rollback(self) -> None:
        """Roll back within ANSWER."""
        self.patient = False
        with watchdog.Limit(self, ANSWER):
            super().rollback()


class Cursor(extensions.cursor):
    """A cursor of a `Driver`. It bounds all statements, also those of the pool and of SQLAlchemy itself."""

    def execute(self, query: Any, values: Any = None) -> None:
        """Run one statement."""
        with _limit(self.connection):
            super().execute(query, values)

    def executemany(self, query: Any, values: Any) -> None:
        """Run one statement with several sets of values."""
        with _limit(self.connection):
            super().executemany(query, values)


def _limit(driver: Any) -> watchdog.Limit:
    return watchdog.Limit(driver, watchdog.NEVER if driver.patient else ANSWER)


def lift_time_outs(connection: Connection, *names: str) -> None:
    """Lift these time-outs of PostgreSQL until the end of the transaction, and let its statements take any time."""
    driver: Any = connection.connection.dbapi_connection
    for name in names:
        connection.exec_driver_sql(f"SET LOCAL {name} = 0")
    driver.patient = True


def prepare(engine: Engine) -> None:
    """Prepare an engine for `database.transaction`."""
    if engine.dialect.name == "sqlite":
        prepare_sqlite(engine)
    else:
        test_after_idling(engine)
        drop_unusable(engine)


def engine_options(url: str) -> dict[str, Any]:
    """Return the pool's size and time-outs."""
    if make_url(url).get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": 5}}
    return {
        "pool_size": POOL,
        "pool_use_lifo": True,  # A few connections stay in use; the others idle.
        "max_overflow": 0,  # Overflow connections are closed after each use, which is slow under load.
        "pool_timeout": 5,
        "connect_args": {
            "connect_timeout": CONNECT,
            "connection_factory": Driver,
            "cursor_factory": Cursor,
            "application_name": "payonce",
            # A host that loses power says nothing. These find out within ten seconds (twenty for the idle).
            "keepalives_idle": 5,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 10_000,
        },
    }


class Idle:
    """The connections of a pool that nobody uses. The watchdog's thread closes those that were unused for too long.

    Only one taker gets a connection from here: either a user or `close_old`.
    """

    def __init__(self) -> None:
        self._since: dict[ConnectionPoolEntry, tuple[float, Any]] = {}
        watchdog.chores.add(self)

    def add(self, record: ConnectionPoolEntry, connection: Any) -> None:
        """Add a connection that is given back."""
        self._since[record] = monotonic(), connection

    def take(self, record: ConnectionPoolEntry) -> float | None:
        """Return the seconds for which the connection was unused, or None if it is not here any more."""
        found = self._since.pop(record, None)
        return monotonic() - found[0] if found else None

    def close_old(self) -> None:
        """Close the connections that nobody has used for CLOSE_AFTER. The pool opens new ones in their place."""
        for record, (since, connection) in list(self._since.items()):
            if monotonic() - since > CLOSE_AFTER and self.take(record) is not None:
                with suppress(psycopg2.Error):
                    connection.close()

    def clear(self) -> None:
        """Forget all, because the pool has closed them, or because they belong to the process that forked this one."""
        self._since.clear()


def test_after_idling(engine: Engine) -> None:
    """Test a connection that has idled before it is used again, because the server may have been restarted.

    A connection that was used a moment ago is not tested, which saves a round trip per transaction. If it broke
    since, its next statement fails, and the pool then replaces all older connections.
    """
    idle = Idle()

    @event.listens_for(engine, "checkin")
    def _note(connection: Any, record: ConnectionPoolEntry) -> None:
        if connection is not None:
            record.info["used"] = True
            idle.add(record, connection)

    @event.listens_for(engine, "checkout")
    def _ask(connection: Any, record: ConnectionPoolEntry, _lent: object) -> None:
        if "used" not in record.info:
            return
        seconds = idle.take(record)
        if seconds is None:
            raise DisconnectionError  # It was closed because it was old. The pool opens another one.
        if seconds < IDLE:
            return
        try:
            engine.dialect.do_ping(connection)
        except psycopg2.Error as error:
            raise InvalidatePoolError from error  # The pool tries again with a new connection.

    @event.listens_for(engine, "engine_disposed")
    def _forget(_engine: Engine) -> None:
        idle.clear()


def reason(error: BaseException | None) -> str:
    """Return in a few words what the driver's error says, without addresses or values."""
    if NO_PLACE.search(str(error)):
        return "the database has no free connection (max_connections)"
    if NO_TABLE.search(str(error)):
        return "it was not migrated (flask --app wsgi db upgrade)"
    return type(error).__name__


def scarce(connection: Connection, workers: int) -> str | None:
    """Return one line if the workers of one host may take all connections that PostgreSQL has, or None."""
    if connection.dialect.name != "postgresql":
        return None
    names = "current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
    places = int(connection.execute(text(f"SELECT {names}")).scalar_one())
    if workers * POOL + OTHERS <= places:
        return None
    return (
        f"{workers} workers of this host may open {workers * POOL} connections, recovery and commands {OTHERS}, but "
        f"the database allows {places}: raise max_connections, use fewer workers, or put pgbouncer in between"
    )


def drop_unusable(engine: Engine) -> None:
    """Close a connection to a server that has become read-only, so that the next one reaches the new primary."""

    @event.listens_for(engine, "handle_error")
    def _drop(context: ExceptionContext) -> None:
        if getattr(context.original_exception, "pgcode", None) in UNUSABLE:
            context.is_disconnect = True


def make_private_folder(url: str) -> None:
    """Create the SQLite file with mode 0600 in a folder with mode 0700: it holds names and e-mail addresses."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        return
    if parsed.query.get("uri"):
        return  # It names a file by a URI, and says there how to open it.
    path = Path(parsed.database)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def prepare_sqlite(engine: Engine) -> None:
    """Set WAL, full synchronisation (NORMAL can lose a claim at a power cut), foreign keys, and our own BEGIN."""

    @event.listens_for(engine, "connect")
    def _connect(connection: sqlite3.Connection, _record: object) -> None:
        # Python's driver opens no transaction before a SELECT, and a read that becomes a write fails with BUSY.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        reading_only = connection.get_execution_options().get("reading", False)
        connection.exec_driver_sql("BEGIN" if reading_only else "BEGIN IMMEDIATE")
