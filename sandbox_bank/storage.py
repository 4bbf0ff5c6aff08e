"""The bank's books: a database of its own, SQLite or PostgreSQL.

Each account has books of its own: one row per key of a charge or refund, and one row per movement of money. API keys
and card numbers are never stored, nor is anything from which a card number could be computed.
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
"""The key of the advisory lock on PostgreSQL under which the tables are created. An arbitrary number."""


class Status(StrEnum):
    """The status of a key. The last three are final."""

    RECEIVED = "received"
    """A request arrived and nothing was decided. A lookup returns "unknown_key"."""
    REQUIRES_ACTION = "requires_action"
    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    CANCELED = "canceled"


OPEN = (Status.RECEIVED, Status.REQUIRES_ACTION)

metadata = MetaData(naming_convention=NAMES)

accounts = Table(
    "bank_account",
    metadata,
    Column("id", String(64), primary_key=True, comment="the hash of the API key"),
    Column("opened_at", UtcDateTime(), nullable=False),
)

charges = Table(
    "bank_account_charge",
    metadata,
    Column("account", String(64), primary_key=True),
    Column("key", String(200), primary_key=True),
    Column("status", String(20), nullable=False),
    Column("reason", String(40)),
    Column("fingerprint", String(64), comment="which request used the key; NULL: fenced before any request arrived"),
    Column("amount", BigInteger),
    Column("currency", String(3)),
    Column("last4", String(4)),
    Column("shop", String(100), comment="the name on the confirmation page"),
    Column("shop_id", String(64), comment="what the shop calls itself"),
    Column("order_id", String(64), comment="what the shop calls the order"),
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
    "bank_account_refund",
    metadata,
    Column("account", String(64), primary_key=True),
    Column("key", String(200), primary_key=True),
    Column("charge", String(200), nullable=False),
    Column("shop_id", String(64)),
    Column("status", String(20), nullable=False),
    Column("reason", String(40)),
    Column("amount", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    CheckConstraint("status IN ('succeeded', 'declined')", name="status"),
    CheckConstraint("amount > 0", name="amount"),
)

movements = Table(
    "bank_account_movement",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("account", String(64), nullable=False),
    Column("key", String(200), nullable=False),
    Column("charge", String(200), nullable=False, comment="the key of the charge that was taken or refunded"),
    Column("shop_id", String(64)),
    Column("kind", String(6), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("at", UtcDateTime(), nullable=False),
    UniqueConstraint("account", "key", "kind"),
    CheckConstraint("kind IN ('charge', 'refund')", name="kind"),
    CheckConstraint("amount > 0", name="amount"),
)


def open_storage(url: str) -> Engine:
    """Return the engine of the bank's database. Create missing tables.

    The engine holds no open connection yet, so the process may fork. Raises ValueError for an SQLite database in
    memory, because threads can't share it. Raises OSError or SQLAlchemyError if the database can't be opened.
    """
    url = url.replace("postgresql://", "postgresql+psycopg2://", 1)
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _open_sqlite(url, parsed.database or "")
    connect_args = {"connect_timeout": 5, "application_name": "payonce-sandbox-bank"}
    engine = create_engine(
        url, hide_parameters=True, pool_pre_ping=True, pool_size=20, max_overflow=0, connect_args=connect_args
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
    # Two connections, so that one can read while the other writes. Waiting in the pool's queue is fairer and faster
    # than polling SQLite's lock.
    engine = create_engine(url, hide_parameters=True, connect_args={"timeout": 30}, pool_size=2, max_overflow=0)
    prepare_sqlite(engine)
    with _locked(Path(database).parent), engine.begin() as connection:
        metadata.create_all(connection)
    engine.dispose()
    return engine


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time run the block. If two switch to WAL together, one may fail without waiting."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Yield a connection for reading. On SQLite it does not take the single write lock."""
    with engine.execution_options(reading=True).connect() as connection:
        yield connection


def insert_into(tx: Connection, table: Table) -> Any:
    """Return an INSERT of the connection's dialect. Unlike SQLAlchemy's own insert(), it supports ON CONFLICT."""
    return postgresql.insert(table) if tx.dialect.name == "postgresql" else sqlite.insert(table)
