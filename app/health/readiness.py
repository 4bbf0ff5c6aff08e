"""Find out why this process can't take payments now. Each check has a deadline, also if the database is silent."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

from flask import Flask, current_app
from sqlalchemy import text
from sqlalchemy.engine import Connection

from app import draining, revisions, timeouts
from app.database import RolledBack, Unreachable, reading, transaction

SECONDS = 2.0
"""Within this time /readyz responds."""


class _Writable(Exception):
    """The database could be written to."""


def _stopping() -> str | None:
    return "the host is about to stop" if draining.has_started() else None


def _read_only(connection: Connection) -> str | None:
    if connection.dialect.name == "postgresql":
        read_only = connection.execute(text("SHOW transaction_read_only")).scalar() == "on"
        return "the database is read-only" if read_only else None
    try:
        with transaction() as tx:  # Only a write shows whether SQLite may write. It is rolled back.
            tx.execute(text("UPDATE alembic_version SET version_num = version_num"))
            raise _Writable
    except (_Writable, RolledBack):  # RolledBack: another request writes at this moment.
        return None
    except Unreachable:
        return "the database is read-only"


def _migration_missing(connection: Connection) -> str | None:
    if revision := revisions.missing(connection):
        return f"the database lacks the migration {revision}; run: flask --app wsgi db upgrade"
    return None


def _timeouts_missing(connection: Connection) -> str | None:
    if names := timeouts.missing(connection):
        return f"the database has no {', '.join(names)}; run: flask --app wsgi db upgrade"
    return None


REASONS: list[Callable[[], str | None]] = [_stopping]
"""Checks of this process, which need no database and take no time."""

DATABASE_REASONS: list[Callable[[Connection], str | None]] = [_migration_missing, _read_only, _timeouts_missing]
"""Checks of the database, in this order. The first reason is reported."""


class DatabaseCheck:
    """The check of the database, in a thread of its own. At most one runs in each process, however long it takes."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="readyz")
        self._lock = Lock()
        self._running: Future[str | None] | None = None

    def reason(self, app: Flask) -> str | None:
        """Return why the database can't take payments, or None."""
        with self._lock:
            if self._running is None or self._running.done():
                self._running = self._thread.submit(_database_reason, app)
            running = self._running
        try:
            return running.result(SECONDS)
        except TimeoutError:
            return f"the database did not answer within {SECONDS:g} seconds"


def _database_reason(app: Flask) -> str | None:
    try:
        with app.app_context(), reading() as connection:
            found = (check(connection) for check in DATABASE_REASONS)
            return next((reason for reason in found if reason), None)
    except Unreachable as error:
        return f"the database can't be reached: {error}"


_database = DatabaseCheck()


def reason() -> str | None:
    """Return the first reason why this process can't take payments, or None if it can."""
    own = next((found for check in REASONS if (found := check())), None)
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    return own or _database.reason(app)
