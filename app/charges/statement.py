"""The gateway's statement, beside the books: read first, with no transaction open, then loaded into a temporary table.

Reading it may take minutes, and a transaction that is open meanwhile would keep old rows alive. A claim is committed
before the gateway is asked, so books that are read after the statement contain the key of every entry.
"""

import csv
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from tempfile import TemporaryFile
from typing import Any, TextIO
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    MetaData,
    String,
    Table,
    Uuid,
    bindparam,
    false,
    insert,
    select,
    text,
)
from sqlalchemy.engine import Connection

from app.database import UtcDateTime, from_now, reading
from app.engines import lift_time_outs
from app.gateways.base import StatementEntry

BATCH = 5_000

statement = Table(
    "bank_statement", MetaData(),
    Column("key", Uuid), Column("foreign_key", String), Column("kind", String(20)),
    Column("amount", BigInteger), Column("currency", String(3)), Column("at", UtcDateTime),
    Column("ours", Boolean, comment="whether the entry bears our SHOP_ID"),
    Column("payment", String, comment="the gateway's name for the payment, equal for a charge and its refunds"),
    Column("reference", String, comment="the gateway's own id"),
    Column("lost", Boolean, server_default=false(), comment="whether the entry is our money, but not in the books"),
    prefixes=["TEMPORARY"],
)  # fmt: skip

COPIED = [column.name for column in statement.c if column.name != "lost"]

MARK_LOST = """
    UPDATE bank_statement SET lost = true
    WHERE kind IN ('charge', 'refund')
    AND NOT EXISTS (SELECT 1 FROM charge c WHERE c.key = bank_statement.key AND kind = 'charge')
    AND NOT EXISTS (SELECT 1 FROM refund r WHERE r.key = bank_statement.key AND kind = 'refund')
    AND (ours OR kind = 'refund' AND at < :late AND EXISTS (
        SELECT 1 FROM bank_statement p LEFT JOIN charge c ON c.key = p.key
        WHERE p.payment = bank_statement.payment AND p.kind = 'charge' AND (p.ours OR c.id IS NOT NULL)))
    AND NOT (kind = 'refund' AND EXISTS (
        SELECT 1 FROM bank_statement p JOIN charge c ON c.key = p.key
        WHERE p.payment = bank_statement.payment AND p.kind = 'charge' AND c.reason = 'reversed'))
"""
"""Refunds that somebody made by hand at the gateway bear no SHOP_ID. The gateway sends an event about each. If the
refund was made before `late`, its event must have arrived. The books hold neither the money nor the refunds of a charge
that ended as reversed (see `reconcile`)."""


@contextmanager
def spooled(entries: Iterable[StatementEntry], shop_id: str) -> Iterator[TextIO]:
    """Read the whole statement into a temporary file and yield it. Raises what reading `entries` raises."""
    with TemporaryFile("w+", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(_row(entry, shop_id) for entry in entries)
        file.seek(0)
        yield file


@contextmanager
def beside_the_books(file: TextIO, overdue: float) -> Iterator[Connection]:
    """Yield a connection that reads the books in one snapshot, with the statement in a temporary table.

    `overdue` is the number of seconds after which a refund made by hand must be in the books.
    """
    with reading(together=True) as connection:
        if connection.dialect.name == "postgresql":
            # A million charges take longer.
            lift_time_outs(connection, "statement_timeout", "idle_in_transaction_session_timeout")
        _load(connection, file)
        late = connection.execute(select(from_now(-overdue))).scalar_one()
        connection.execute(text(MARK_LOST).bindparams(bindparam("late", late, UtcDateTime())))
        yield connection


def _load(connection: Connection, file: TextIO) -> None:
    """Load the statement into its table, then index and analyse it, so that a million lines join quickly."""
    statement.create(connection)
    if connection.dialect.name == "postgresql":
        # COPY is several times as fast as INSERT.
        cursor: Any = connection.connection.cursor()
        cursor.copy_expert(f"COPY bank_statement ({', '.join(COPIED)}) FROM STDIN WITH (FORMAT csv)", file)
        cursor.close()
    else:
        lines = csv.reader(file)
        while batch := [_typed(line) for line in islice(lines, BATCH)]:
            connection.execute(insert(statement), batch)
    for column in ("key", "payment"):
        connection.exec_driver_sql(f"CREATE INDEX ix_bank_statement_{column} ON bank_statement ({column})")
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("ANALYZE bank_statement")


def _row(entry: StatementEntry, shop_id: str) -> tuple[object, ...]:
    key, foreign = _key(entry.key)
    ours = bool(shop_id) and entry.shop_id == shop_id
    return (
        key, foreign, entry.kind, entry.amount, entry.currency, entry.at.isoformat(), int(ours),
        entry.payment_reference, entry.gateway_reference,
    )  # fmt: skip


def _key(key: str) -> tuple[UUID | None, str | None]:
    """Our keys are UUIDs. Any other text is not ours."""
    try:
        return UUID(key), None
    except ValueError:
        return None, key


def _typed(line: list[str]) -> dict[str, object]:
    """Return a line of the file as a row. COPY does the same: an empty text is NULL."""
    row: dict[str, Any] = dict(zip(COPIED, (value or None for value in line), strict=True))
    return row | {
        "key": row["key"] and UUID(row["key"]), "at": datetime.fromisoformat(row["at"]), "ours": row["ours"] == "1",
        "amount": int(row["amount"]),
    }  # fmt: skip
