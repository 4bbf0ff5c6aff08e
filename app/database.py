"""The database: one `db`, one `Base`, and the only place in the program that commits or rolls back.

Flask-SQLAlchemy is used without its session. `transaction()` yields a plain connection, so that the code shows where
each transaction begins and ends (see docs/decisions/flask-sqlalchemy-without-its-session.md).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
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
    Table,
    TypeDecorator,
    event,
    literal,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.sql.functions import FunctionElement

from app import engines, watchdog

Result = TypeVar("Result")

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}


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
    """INSERT … ON CONFLICT DO NOTHING, whichever unique key conflicts, built once for each dialect.

    With `where`, it is INSERT … SELECT from the tables that are named there. Their rows are locked against deletion.
    """

    def __init__(
        self, table: Table, values: Mapping[str, Any], *, where: Sequence[ColumnElement[bool]] = (),
        returning: Sequence[Column[Any]] = (),
    ) -> None:  # fmt: skip
        def build(insert: Callable[..., Any]) -> Any:
            rows = insert(table).values(values)
            if where:
                elements = [each if isinstance(each, ColumnElement) else literal(each) for each in values.values()]
                found = select(*elements).where(*where).with_for_update(read=True, key_share=True)  # FOR KEY SHARE
                rows = insert(table).from_select(list(values), found, include_defaults=False)
            return rows.on_conflict_do_nothing().returning(*returning)

        self._statements = {"postgresql": build(postgresql.insert), "sqlite": build(sqlite.insert)}

    def execute(self, connection: Connection, values: Mapping[str, Any]) -> CursorResult[Any]:
        """Run it. The row count is 1, or 0 if another row has one of the unique keys."""
        return connection.execute(self._statements[connection.dialect.name], values)


COMMIT_SECONDS = 4.0
"""Seconds that one COMMIT may take."""

_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


class Unreachable(Exception):
    """The database can't be reached, or the connection broke. A commit in progress may or may not have happened."""


class RolledBack(Unreachable):
    """The database ended the transaction before its commit, for example after a lock time-out. Nothing was written."""


@contextmanager
def transaction() -> Iterator[Connection]:
    """Yield a connection in a transaction: commit when the block ends, roll back when it raises.

    Raises RolledBack if a statement was refused, and Unreachable if the database failed. If it failed during COMMIT,
    the transaction may have been committed; `confirmed` finds out.
    """
    with _database_errors(), db.engine.begin() as connection:
        yield connection
        _commit(connection)


def confirmed(work: Callable[[Connection], Result]) -> Result:
    """Run `work` in a transaction and return its result once the commit is known to have happened.

    This is the only place that deals with lost commits. A commit is lost if the connection broke, if it did not
    return in time, or if it returned with a warning (see `_commit`). Then `work` runs once more. It must find
    out by *writing* what the first run did: by the same INSERT, and if that conflicts by locking the row that is
    there. Only a transaction that writes waits for a synchronous standby, so reading alone would confirm nothing.

    Raises RolledBack if nothing was written, and Unreachable if that is not known.
    """
    try:
        with transaction() as connection:
            return work(connection)
    except RolledBack:
        raise
    except Unreachable:
        try:
            with transaction() as connection:
                return work(connection)
        except RolledBack as error:
            raise Unreachable(f"an earlier commit was lost, and then: {error}") from error


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Refuse to begin another statement or a COMMIT after this time, in this thread and inside this block."""
    token = _deadline.set(monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)


def _check_deadlines(engine: Engine) -> None:
    """Check the deadline before each statement."""

    @event.listens_for(engine, "before_cursor_execute")
    def _check(*_args: object) -> None:
        _refuse_late()


def _commit(connection: Connection) -> None:
    """Commit this connection's transaction. Raises RolledBack, or Unreachable if the commit is lost.

    A COMMIT can wait for a synchronous standby without any time limit of the server: `statement_timeout` does not end
    that wait. So each COMMIT has a deadline here, after which the driver's `cancel()` is called. PostgreSQL then
    reports success *and a warning*: this server has committed, but no standby has, so a failover would lose the
    transaction. SQLAlchemy does not show the warning, so it is read from the driver.
    """
    _refuse_late()
    transaction = connection.get_transaction()
    if transaction is None:
        return
    if connection.dialect.name == "sqlite":
        transaction.commit()
        return
    driver: Any = connection.connection.dbapi_connection
    driver.notices.clear()
    with watchdog.cancelled_after(COMMIT_SECONDS, driver):
        transaction.commit()
    if driver.notices:
        raise Unreachable(f"the commit was answered with a warning: {str(driver.notices[0]).strip()}")


def _refuse_late() -> None:
    end = _deadline.get()
    if end is not None and monotonic() > end:
        raise RolledBack("the time for this request is over")


@contextmanager
def reading(*, together: bool = False) -> Iterator[Connection]:
    """Yield a connection for reading. On SQLite this does not take the single write lock. Raises Unreachable.

    On PostgreSQL every SELECT runs in autocommit, which saves the round trips of BEGIN and ROLLBACK. With `together`,
    all of them see one snapshot, the one of the first SELECT; a transaction on SQLite always does.
    """
    with _database_errors(), db.engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            yield connection.execution_options(reading=True)
        elif together:
            yield connection.execution_options(isolation_level="REPEATABLE READ")
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


REFUSED = {"55P03", "57014", "40P01", "40001"}  # Lock time-out, cancelled, deadlock, serialisation failure.
"""SQLSTATEs of a statement that was rolled back."""


@contextmanager
def _database_errors() -> Iterator[None]:
    try:
        yield
    except PoolTimeout as error:
        raise Unreachable("no connection was free in time") from error
    except DBAPIError as error:
        raise _translated(error) from error
    except (psycopg2.InterfaceError, psycopg2.OperationalError) as error:
        # Outside of a statement SQLAlchemy does not translate the driver's errors, for example in `_autocommit`.
        raise Unreachable(engines.reason(error)) from error


def _translated(error: DBAPIError) -> Exception:
    """Return what the database's error means for the transaction."""
    reason = engines.reason(error.orig)
    state = getattr(error.orig, "pgcode", None)
    if state in REFUSED or str(error.orig) == "database is locked":
        return RolledBack(reason)
    if (
        state in engines.UNUSABLE
        or error.connection_invalidated
        or isinstance(error, (OperationalError, InterfaceError))
    ):
        return Unreachable(reason)
    return error


def init_app(app: Flask, url: str) -> None:
    """Bind `db` to the app and prepare its engine for `transaction()`."""
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = engines.engine_options(url)
    engines.make_private_folder(url)
    db.init_app(app)
    with app.app_context():
        engines.prepare(db.engine)
        _check_deadlines(db.engine)
