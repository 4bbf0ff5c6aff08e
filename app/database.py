"""The storage: one `db`, one `Base`, and `transaction()`, the only place in the program that commits or rolls back."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import uniform
from time import monotonic
from typing import Any, cast

import psycopg2
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
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
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, InvalidatePoolError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql.functions import FunctionElement

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}


IDLE = 0.2
"""Seconds after which a pooled connection to PostgreSQL is no longer trusted unasked."""


class Base(DeclarativeBase):
    """What every table is declared on. Constraints have names, so that migrations and errors can speak of them."""

    metadata = MetaData(naming_convention=NAMES)


db = SQLAlchemy(model_class=Base)

BigId = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up by itself only for INTEGER


class UtcDateTime(TypeDecorator[datetime]):
    """A point in time, always aware and in UTC, on both engines (SQLite knows no zones)."""

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
    """The database's own clock, so many seconds from now: hosts may disagree about the time, one database can't."""

    type = UtcDateTime()
    inherit_cache = True


@compiles(from_now, "postgresql")
def _postgresql_clock(element: Any, compiler: Any, **kw: Any) -> str:
    return f"(clock_timestamp() + make_interval(secs => {compiler.process(element.clauses, **kw)}))"


@compiles(from_now, "sqlite")
def _sqlite_clock(element: Any, compiler: Any, **kw: Any) -> str:
    # The three zeros make it the six digits that SQLAlchemy stores, so that texts compare as times do.
    return f"(strftime('%Y-%m-%d %H:%M:%f', 'now', ({compiler.process(element.clauses, **kw)}) || ' seconds') || '000')"


def table(model: type[Base]) -> Table:
    """The model's table, for statements that are built once and spoken without the ORM."""
    return cast(Table, model.__table__)


def insert_once(table: Table) -> Insert:
    """INSERT … ON CONFLICT DO NOTHING, whichever unique key conflicts. Both engines read what this compiles to."""
    return insert(table).on_conflict_do_nothing()


def longest_due(identity: Column[Any], due: Column[Any], *still: ColumnElement[bool]) -> ScalarSelect[Any]:
    """The row that has been due the longest and that no other worker is just taking: for leases, one at a time."""
    return (
        select(identity)
        .where(*still, due <= from_now(0))
        .order_by(due)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )


def back_off(asked: int) -> float:
    """Seconds until the next question: doubling from a second to half a minute, spread so that rows don't march."""
    return min(30.0, 2.0 ** min(asked, 5)) * uniform(0.5, 1.0)


class Unreachable(Exception):
    """The storage is away, or went away: what was being committed may or may not have happened."""


@contextmanager
def transaction() -> Iterator[Connection]:
    """One transaction: committed when the block ends, rolled back when it raises, its connection given back either way.

    Raises Unreachable where the storage fails; if that is while committing, nobody knows yet whether it did.
    """
    with _storage_failures(), db.engine.begin() as connection:
        yield connection


@contextmanager
def reading(*, together: bool = False) -> Iterator[Connection]:
    """Looks that change nothing; on SQLite they do not ask for the one write lock. Raises Unreachable.

    On PostgreSQL each look stands for itself, which saves the round trips of BEGIN and ROLLBACK; `together` puts
    them all into one transaction.
    """
    with _storage_failures(), db.engine.connect() as connection:
        if together or connection.dialect.name == "sqlite":
            yield connection.execution_options(reading=True)
        else:
            with _each_alone(connection):
                yield connection


@contextmanager
def _each_alone(connection: Connection) -> Iterator[None]:
    """The driver's own autocommit. SQLAlchemy's would take a round trip to be put back."""
    driver: Any = connection.connection.dbapi_connection
    driver.autocommit = True
    try:
        yield
    finally:
        if not driver.closed:
            driver.autocommit = False


def objects(connection: Connection) -> Session:
    """The ORM on this connection and in its transaction, for reading whole objects; it commits nothing itself."""
    return Session(connection, expire_on_commit=False)


@contextmanager
def _storage_failures() -> Iterator[None]:
    try:
        yield
    except PoolTimeout as error:
        raise Unreachable("no connection was free in time") from error
    except DBAPIError as error:
        if error.connection_invalidated or isinstance(error, (OperationalError, InterfaceError)):
            raise Unreachable(type(error.orig).__name__) from error
        raise
    except (psycopg2.InterfaceError, psycopg2.OperationalError) as error:
        # Outside of a statement, as when a connection is set for reading, SQLAlchemy lets the driver's own pass.
        raise Unreachable(type(error).__name__) from error


def init_app(app: Flask, url: str) -> None:
    """Bind `db` to the app and prepare the engine for the way that `transaction()` uses it."""
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = engine_options(url)
    make_private_folder(url)
    db.init_app(app)
    with app.app_context():
        if db.engine.dialect.name == "sqlite":
            prepare_sqlite(db.engine)
        else:
            ask_after_idling(db.engine)


def engine_options(url: str) -> dict[str, Any]:
    """Pool and time-outs. Nobody holds a connection while a gateway is asked, so few serve many threads."""
    if make_url(url).get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": 10}}
    return {
        "pool_size": 20,
        "pool_use_lifo": True,  # The few that are in use stay warm; the others idle until the server drops them.
        "max_overflow": 0,  # What overflows is closed after each use: under load that is a new connection each time.
        "pool_timeout": 5,
        "connect_args": {"connect_timeout": 5, "application_name": "payonce"},
    }


def ask_after_idling(engine: Engine) -> None:
    """A connection that idled may have died with a restart of the server: it is asked before it is lent again.

    One that was used a moment ago is lent unasked, which saves a round trip for each transaction. If it broke since,
    its next statement fails, and with it the pool forgets every connection as old.
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
            raise InvalidatePoolError from error  # The pool tries again, with a new one.


def make_private_folder(url: str) -> None:
    """SQLite files hold names and e-mail addresses: 0600 in a folder that only the owner may enter."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        return
    path = Path(parsed.database)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def prepare_sqlite(engine: Engine) -> None:
    """WAL, FULL synchronisation (NORMAL loses a claim at a power cut), foreign keys, and BEGIN under our control."""

    @event.listens_for(engine, "connect")
    def _connect(connection: sqlite3.Connection, _record: object) -> None:
        # Python's driver opens no transaction before a SELECT; a read that then turns into a write fails with BUSY.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        reading_only = connection.get_execution_options().get("reading", False)
        connection.exec_driver_sql("BEGIN" if reading_only else "BEGIN IMMEDIATE")
