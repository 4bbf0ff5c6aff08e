"""The database: one `db`, one `Base`, and the only place in the program that commits or rolls back.

Flask-SQLAlchemy is used without its session. `transaction()` yields a plain connection, so that the code shows where
each transaction begins and ends (see docs/decisions/flask-sqlalchemy-without-its-session.md).
"""

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import uniform
from time import monotonic
from typing import Any, TypeVar, cast

import psycopg2
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    CursorResult,
    DateTime,
    Dialect,
    Integer,
    MetaData,
    ScalarSelect,
    Table,
    TypeDecorator,
    event,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, InvalidatePoolError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql.functions import FunctionElement

Result = TypeVar("Result")

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}


IDLE = 0.2
"""Seconds after which a pooled connection to PostgreSQL is tested before it is used again."""


class Base(DeclarativeBase):
    """The declarative base of every table. All constraints are named, for migrations and error messages."""

    metadata = MetaData(naming_convention=NAMES)


db = SQLAlchemy(model_class=Base)

BigId = BigInteger().with_variant(Integer, "sqlite")  # SQLite generates values only for INTEGER keys.


class UtcDateTime(TypeDecorator[datetime]):
    """A point in time, always aware and in UTC, on both engines. SQLite stores no time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class from_now(FunctionElement[datetime]):
    """The database's clock plus a number of seconds. Hosts' clocks differ; one database has one clock."""

    type = UtcDateTime()
    inherit_cache = True


@compiles(from_now, "postgresql")
def _postgresql_clock(element: Any, compiler: Any, **kw: Any) -> str:
    return f"(clock_timestamp() + make_interval(secs => {compiler.process(element.clauses, **kw)}))"


@compiles(from_now, "sqlite")
def _sqlite_clock(element: Any, compiler: Any, **kw: Any) -> str:
    # SQLAlchemy stores six digits of a second. The three zeros make both forms compare as texts.
    return f"(strftime('%Y-%m-%d %H:%M:%f', 'now', ({compiler.process(element.clauses, **kw)}) || ' seconds') || '000')"


def table(model: type[Base]) -> Table:
    """Return the model's table, for Core statements."""
    return cast(Table, model.__table__)


class InsertOnce:
    """INSERT … ON CONFLICT DO NOTHING, whichever unique key conflicts, built once for each dialect."""

    def __init__(self, table: Table, values: Mapping[str, Any], returning: Sequence[Column[Any]] = ()) -> None:
        self._statements = {
            "postgresql": postgresql.insert(table).values(values).on_conflict_do_nothing().returning(*returning),
            "sqlite": sqlite.insert(table).values(values).on_conflict_do_nothing().returning(*returning),
        }

    def execute(self, connection: Connection, values: Mapping[str, Any]) -> CursorResult[Any]:
        """Run it. The row count is 1, or 0 if another row has one of the unique keys."""
        return connection.execute(self._statements[connection.dialect.name], values)


def longest_due(identity: Column[Any], due: Column[Any], *still: ColumnElement[bool]) -> ScalarSelect[Any]:
    """Return a subquery for the row that has been due the longest and that no other worker is taking at the moment."""
    return (
        select(identity)
        .where(*still, due <= from_now(0))
        .order_by(due)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )


def back_off(times_asked: int) -> float:
    """Return the seconds until the next question: doubling from one to thirty, with jitter."""
    return min(30.0, 2.0 ** min(times_asked, 5)) * uniform(0.5, 1.0)  # noqa: S311 - jitter is no secret.


class Unreachable(Exception):
    """The database can't be reached, or the connection broke. A commit in progress may or may not have happened."""


@contextmanager
def transaction() -> Iterator[Connection]:
    """Yield a connection in a transaction: commit when the block ends, roll back when it raises.

    Raises Unreachable if the database fails. If it failed during COMMIT, the transaction may have been committed.
    """
    with _database_errors(), db.engine.begin() as connection:
        yield connection


def confirmed(work: Callable[[Connection], Result]) -> Result:
    """Run `work` in a transaction and return its result once the commit is known to have happened.

    If the database fails, `work` is run once more: it must find out by writing what the first run did. Raises
    Unreachable if the second run fails as well: then it is not known whether anything was committed.
    """
    try:
        with transaction() as connection:
            return work(connection)
    except Unreachable:
        with transaction() as connection:
            return work(connection)


@contextmanager
def reading(*, together: bool = False) -> Iterator[Connection]:
    """Yield a connection for reading. On SQLite this does not take the single write lock. Raises Unreachable.

    On PostgreSQL every SELECT runs in autocommit, which saves the round trips of BEGIN and ROLLBACK. With `together`,
    all of them run in one transaction.
    """
    with _database_errors(), db.engine.connect() as connection:
        if together or connection.dialect.name == "sqlite":
            yield connection.execution_options(reading=True)
        else:
            with _autocommit(connection):
                yield connection


@contextmanager
def _autocommit(connection: Connection) -> Iterator[None]:
    """Use the driver's autocommit, because resetting SQLAlchemy's costs a round trip."""
    driver: Any = connection.connection.dbapi_connection
    driver.autocommit = True
    try:
        yield
    finally:
        if not driver.closed:
            driver.autocommit = False


def objects(connection: Connection) -> Session:
    """Return an ORM session in this connection's transaction, for reading objects. It never commits."""
    return Session(connection, expire_on_commit=False)


@contextmanager
def _database_errors() -> Iterator[None]:
    try:
        yield
    except PoolTimeout as error:
        raise Unreachable("no connection was free in time") from error
    except DBAPIError as error:
        if error.connection_invalidated or isinstance(error, (OperationalError, InterfaceError)):
            raise Unreachable(type(error.orig).__name__) from error
        raise
    except (psycopg2.InterfaceError, psycopg2.OperationalError) as error:
        # Outside of a statement SQLAlchemy does not translate the driver's errors, for example in `_autocommit`.
        raise Unreachable(type(error).__name__) from error


def init_app(app: Flask, url: str) -> None:
    """Bind `db` to the app and prepare its engine for `transaction()`."""
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = engine_options(url)
    make_private_folder(url)
    db.init_app(app)
    with app.app_context():
        if db.engine.dialect.name == "sqlite":
            prepare_sqlite(db.engine)
        else:
            test_after_idling(db.engine)


def engine_options(url: str) -> dict[str, Any]:
    """Return the pool's size and time-outs. No connection is held while a gateway is asked, so few are enough."""
    if make_url(url).get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": 10}}
    return {
        "pool_size": 20,
        "pool_use_lifo": True,  # A few connections stay in use; the others idle.
        "max_overflow": 0,  # Overflow connections are closed after each use, which is slow under load.
        "pool_timeout": 5,
        "connect_args": {"connect_timeout": 5, "application_name": "payonce"},
    }


def test_after_idling(engine: Engine) -> None:
    """Test a connection that has idled before it is used again, because the server may have been restarted.

    A connection that was used a moment ago is not tested, which saves a round trip per transaction. If it broke
    since, its next statement fails, and the pool then replaces all older connections.
    """

    @event.listens_for(engine, "checkin")
    def _note(_connection: object, record: ConnectionPoolEntry) -> None:
        record.info["used"] = monotonic()

    @event.listens_for(engine, "checkout")
    def _ask(connection: Any, record: ConnectionPoolEntry, _lent: object) -> None:
        if monotonic() - record.info.get("used", monotonic()) < IDLE:
            return
        try:
            engine.dialect.do_ping(connection)
        except psycopg2.Error as error:
            raise InvalidatePoolError from error  # The pool tries again with a new connection.


def make_private_folder(url: str) -> None:
    """Create the SQLite file with mode 0600 in a folder with mode 0700: it holds names and e-mail addresses."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        return
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
