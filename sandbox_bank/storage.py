"""The bank's books: its own database, its own tables, SQLite or PostgreSQL.

One row a key in `bank_charges` and `bank_refunds`, one row a movement of money in `bank_movements`. No card
number is ever stored, nor anything that it could be computed from.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    create_engine,
    make_url,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite

from app.database import NAMES, UtcDateTime
from app.engines import make_private_folder, prepare_sqlite

CREATION_LOCK = 7_206_914_113
"""Any number of ours: PostgreSQL's advisory lock while the tables are made."""


class Status(StrEnum):
    """Where a key stands at the bank. All but the first two are for good."""

    RECEIVED = "received"
    """A request was seen and nothing was decided; to whoever looks, the key is unknown."""
    REQUIRES_ACTION = "requires_action"
    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    CANCELED = "canceled"


OPEN = (Status.RECEIVED, Status.REQUIRES_ACTION)

metadata = MetaData(naming_convention=NAMES)

charges = Table(
    "bank_charges",
    metadata,
    Column("key", String(200), primary_key=True),
    Column("status", String(20), nullable=False),
    Column("reason", String(40)),
    Column("fingerprint", String(64), comment="which request took the key; NULL: fenced before any came"),
    Column("amount", BigInteger),
    Column("currency", String(3)),
    Column("last4", String(4)),
    Column("shop", String(100)),
    Column("return_url", String(2000)),
    Column("action_id", String(43), unique=True),
    Column("calls", Integer, nullable=False, comment="how many charge requests arrived under the key"),
    Column("refunded", BigInteger, nullable=False, server_default=text("0")),
    CheckConstraint("status IN ('received', 'requires_action', 'succeeded', 'declined', 'canceled')", name="status"),
    CheckConstraint("amount > 0", name="amount"),
    CheckConstraint("fingerprint IS NOT NULL OR status = 'canceled'", name="fence"),
    CheckConstraint("refunded >= 0 AND (refunded = 0 OR refunded <= amount)", name="refunded"),
)

refunds = Table(
    "bank_refunds",
    metadata,
    Column("key", String(200), primary_key=True),
    Column("charge", String(200), nullable=False),
    Column("status", String(20), nullable=False),
    Column("reason", String(40)),
    Column("amount", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    CheckConstraint("status IN ('succeeded', 'declined')", name="status"),
    CheckConstraint("amount > 0", name="amount"),
)

movements = Table(
    "bank_movements",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("key", String(200), nullable=False),
    Column("kind", String(6), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("at", UtcDateTime(), nullable=False),
    UniqueConstraint("key", "kind"),
    CheckConstraint("kind IN ('charge', 'refund')", name="kind"),
    CheckConstraint("amount > 0", name="amount"),
)


def open_storage(url: str) -> Engine:
    """The engine for the bank's database, its tables made where they are missing. Holds no connection
    yet, so that a process may fork after it. Raises ValueError for one in memory: threads can't share it.
    """
    url = url.replace("postgresql://", "postgresql+psycopg2://", 1)
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _open_sqlite(url, parsed.database or "")
    reach = {"connect_timeout": 5, "application_name": "payonce-sandbox-bank"}
    engine = create_engine(
        url, hide_parameters=True, pool_pre_ping=True, pool_size=20, max_overflow=0, connect_args=reach
    )
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": CREATION_LOCK})
        metadata.create_all(connection)
    engine.dispose()
    return engine


def _open_sqlite(url: str, database: str) -> Engine:
    if database in ("", ":memory:"):
        raise ValueError("the bank's SQLite database must be a file")
    make_private_folder(url)
    # One to write and one to look: a queue for a connection is fairer, and faster, than polling SQLite's lock.
    wait = {"timeout": 30}
    engine = create_engine(url, hide_parameters=True, connect_args=wait, pool_size=2, max_overflow=0)
    prepare_sqlite(engine)
    with _alone(Path(database).parent), engine.begin() as connection:
        metadata.create_all(connection)
    engine.dispose()
    return engine


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time: the switch to WAL may fail at once, whatever the time-out, where two try it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A connection that only looks; on SQLite it does not ask for the one write lock."""
    with engine.execution_options(reading=True).connect() as connection:
        yield connection


def insert_into(tx: Connection, table: Table) -> Any:
    """INSERT that can say ON CONFLICT, in the engine's own dialect."""
    return postgresql.insert(table) if tx.dialect.name == "postgresql" else sqlite.insert(table)
