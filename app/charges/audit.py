"""The audit: compares the books, the orders and the stock with the gateway's own statement.

The statement is streamed into a temporary table, so that each invariant is one query and a million charges need no
memory here. Charges and refunds that are still open are listed separately: an open outcome is not a breach.
"""

import re
from collections.abc import Iterable, Iterator
from csv import writer
from dataclasses import dataclass, field
from io import StringIO
from itertools import islice
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import BigInteger, Column, MetaData, String, Table, Uuid, bindparam, insert, select, text
from sqlalchemy.engine import Connection

from app.charges import audit_queries as queries
from app.charges import states
from app.charges.models import Charge
from app.charges.states import sql_list
from app.database import UtcDateTime, from_now, reading
from app.engines import lift_time_outs
from app.gateways.base import StatementEntry
from app.leases import LONGEST, RARELY

BATCH = 5_000
GRACE = 60.0
"""Seconds beyond the gateway's deadline in which recovery must have found the outcome or noted why not."""

SHOWN = 100
"""Offenders listed per invariant at most."""

BARE_KEY = re.compile(r"\b[0-9a-f]{32}\b")
"""A key as SQLite stores it. The report shows keys as the gateway does, so that they can be searched for there."""

statement = Table(
    "bank_statement", MetaData(),
    Column("key", Uuid), Column("foreign_key", String), Column("kind", String(20)),
    Column("amount", BigInteger), Column("currency", String(3)), Column("at", UtcDateTime),
    prefixes=["TEMPORARY"],
)  # fmt: skip

LIVE = f"c.status IN ({sql_list(states.LIVE)})"


class Invariant(NamedTuple):
    """A sentence that must be true. `query` returns the ids of the rows that contradict it."""

    number: int
    sentence: str
    query: str


INVARIANTS = (
    Invariant(1, "No order has more than one succeeded charge.", """
        SELECT 'order ' || order_id FROM charge WHERE status = 'succeeded' GROUP BY order_id HAVING count(*) > 1
    """),
    Invariant(2, "For every key the bank took money exactly once or not at all.", """
        SELECT 'key ' || coalesce(cast(key AS varchar), foreign_key) FROM bank_statement WHERE kind = 'charge'
        GROUP BY key, foreign_key HAVING count(*) > 1
    """),
    Invariant(3, "Every succeeded charge has exactly one bank entry of the same amount and currency.", """
        SELECT 'charge ' || c.id FROM charge c
        LEFT JOIN bank_statement s ON s.key = c.key AND s.kind = 'charge'
        WHERE c.status = 'succeeded' AND c.ended_at < :began
        GROUP BY c.id, c.amount, c.currency
        HAVING count(s.key) <> 1 OR min(s.amount) <> c.amount OR min(s.currency) <> c.currency
    """),
    Invariant(4, "No declined or canceled charge has a bank entry that is not reversed.", queries.REVERSED),
    Invariant(5, "An order shows as paid exactly when it has a succeeded charge; what was paid is its snapshot.", f"""
        SELECT 'order ' || o.id FROM orders o JOIN charge c ON c.order_id = o.id AND {LIVE}
        WHERE o.state <> 'placed' OR o.currency <> c.currency OR c.amount <> (
            SELECT coalesce(sum(l.quantity * l.unit_price), 0) FROM charge_line l WHERE l.charge_id = c.id)
        UNION ALL
        SELECT 'order ' || o.id FROM orders o WHERE o.state = 'placed'
        AND NOT EXISTS (SELECT 1 FROM charge c WHERE c.order_id = o.id AND {LIVE})
    """),
    Invariant(6, "The ledger sums to zero per currency and charge, and agrees with charges, refunds and disputes.",
              queries.LEDGER),
    Invariant(7, "Refunds never exceed the charge; each refund key moved money at most once.", queries.REFUNDS),
    Invariant(8, "A product's stock ever put in, less what is left, is what orders with live charges hold.", f"""
        SELECT 'product ' || p.id FROM product p LEFT JOIN (
            SELECT l.product_id, sum(l.quantity) AS held FROM charge_line l
            JOIN charge c ON c.id = l.charge_id AND {LIVE} GROUP BY l.product_id) h ON h.product_id = p.id
        WHERE p.stock < 0 OR p.stocked - p.stock <> coalesce(h.held, 0)
    """),
    Invariant(9, "Nothing stays pending past its deadline unless a worker has asked since and noted why.", """
        SELECT 'charge ' || id FROM charge
        WHERE status IN ('processing', 'in_doubt') AND created_at < :overdue
            AND (note IS NULL OR asked_at IS NULL
                 OR asked_at < CASE WHEN attention IS NULL THEN :stale ELSE :long_stale END)
        UNION ALL
        SELECT 'refund ' || id FROM refund
        WHERE status IN ('processing', 'in_doubt') AND created_at < :overdue
            AND (note IS NULL OR asked_at IS NULL
                 OR asked_at < CASE WHEN attention IS NULL THEN :stale ELSE :long_stale END)
    """),
    Invariant(11, "A charge belongs to the buyer of its order.", """
        SELECT 'charge ' || c.id FROM charge c JOIN orders o ON o.id = c.order_id WHERE c.buyer_id <> o.buyer_id
    """),
)  # fmt: skip

REASON = "coalesce(': ' || note, '') || coalesce(' (look at it: ' || attention || ')', '')"
PENDING_ITEMS = f"""
    SELECT 'charge ' || id || ' ' || status || {REASON} FROM charge
    WHERE status IN ({sql_list(states.PENDING)})
    UNION ALL
    SELECT 'refund ' || id || ' ' || status || {REASON} FROM refund
    WHERE status IN ({sql_list(states.REFUND_PENDING)})
"""

FOREIGN = """
    SELECT s.kind || ' ' || coalesce(cast(s.key AS varchar), s.foreign_key) FROM bank_statement s
    LEFT JOIN charge c ON c.key = s.key LEFT JOIN refund r ON r.key = s.key
    WHERE c.id IS NULL AND r.id IS NULL
"""


@dataclass
class Report:
    """What the audit found: offenders by invariant, and what deserves a look although no invariant is broken."""

    broken: dict[int, list[str]] = field(default_factory=dict)
    open: list[str] = field(default_factory=list)
    stray: list[str] = field(default_factory=list)
    attention: list[str] = field(default_factory=list)
    disputed: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)


def accounts() -> set[tuple[str, str]]:
    """Return every gateway and account that a charge was ever made with. Their statements must be read."""
    with reading() as tx:
        return {(name, account) for name, account in tx.execute(select(Charge.gateway, Charge.account).distinct())}


def audit(entries: Iterable[StatementEntry], overdue: float) -> Report:
    """Check every invariant against the statement's `entries`.

    `overdue` is the number of seconds after which a worker must have asked about an open charge. Charges that ended
    while the statement was being read are left to the next audit. Raises Unreachable and what reading `entries`
    raises.
    """
    with reading(together=True) as connection:
        if connection.dialect.name == "postgresql":
            # A million charges take longer.
            lift_time_outs(connection, "statement_timeout", "idle_in_transaction_session_timeout")
        began = connection.execute(select(from_now(0))).scalar_one()
        late = connection.execute(select(from_now(-overdue))).scalar_one()
        stale = connection.execute(select(from_now(-overdue - LONGEST))).scalar_one()
        long_stale = connection.execute(select(from_now(-overdue - RARELY))).scalar_one()
        _load(connection, entries)
        report = Report()
        for invariant in INVARIANTS:
            if offenders := _ids(
                connection, invariant.query, began=began, overdue=late, stale=stale, long_stale=long_stale
            ):
                report.broken[invariant.number] = offenders
        report.open = _ids(connection, PENDING_ITEMS)
        report.stray = _ids(connection, queries.STRAY)
        report.attention = _ids(connection, queries.ATTENTION)
        report.disputed = _ids(connection, queries.DISPUTED)
        report.foreign = _ids(connection, FOREIGN)
        return report


def as_json(report: Report) -> dict[str, object]:
    """Return ok, invariants (number, invariant, holds, offenders), open, stray, attention, disputed and foreign."""
    invariants = [
        {
            "number": invariant.number,
            "invariant": invariant.sentence,
            "holds": invariant.number not in report.broken,
            "offenders": report.broken.get(invariant.number, []),
        }
        for invariant in INVARIANTS
    ]
    return {
        "ok": not report.broken, "invariants": invariants,
        "open": report.open, "stray": report.stray, "attention": report.attention, "disputed": report.disputed,
        "foreign": report.foreign,
    }  # fmt: skip


def as_text(report: Report) -> str:
    """Return the report as lines for people."""
    lines = []
    for invariant in INVARIANTS:
        offenders = report.broken.get(invariant.number, [])
        lines.append(f"{'BROKEN' if offenders else 'holds '} {invariant.number}. {invariant.sentence}")
        lines += [f"         {offender}" for offender in offenders]
    for title, found in (
        ("Still open", report.open),
        ("Stray payments", report.stray),
        ("Ended, but a person must look", report.attention),
        ("Disputed: hold goods that are not shipped yet", report.disputed),
        ("At the gateway under keys that are not ours", report.foreign),
    ):
        lines += [f"{title}:", *(f"         {item}" for item in found)] if found else []
    return "\n".join(lines)


def _load(connection: Connection, entries: Iterable[StatementEntry]) -> None:
    """Load the statement into its table, then index and analyse it, so that a million lines join quickly."""
    postgresql = connection.dialect.name == "postgresql"
    statement.create(connection)
    for batch in _batches(map(_row, entries)):
        if postgresql:
            _copy(connection, batch)
        else:
            connection.execute(insert(statement), batch)
    connection.exec_driver_sql("CREATE INDEX ix_bank_statement_key ON bank_statement (key)")
    if postgresql:
        connection.exec_driver_sql("ANALYZE bank_statement")


def _copy(connection: Connection, batch: list[dict[str, object]]) -> None:
    """Load by COPY, which is several times as fast as INSERT."""
    lines = StringIO()
    writer(lines).writerows(row.values() for row in batch)
    lines.seek(0)
    cursor: Any = connection.connection.cursor()
    cursor.copy_expert("COPY bank_statement FROM STDIN WITH (FORMAT csv)", lines)
    cursor.close()


def _batches(rows: Iterator[dict[str, object]]) -> Iterator[list[dict[str, object]]]:
    while batch := list(islice(rows, BATCH)):
        yield batch


def _row(entry: StatementEntry) -> dict[str, object]:
    key, foreign = _key(entry.key)
    return {
        "key": key, "foreign_key": foreign, "kind": entry.kind,
        "amount": entry.amount, "currency": entry.currency, "at": entry.at,
    }  # fmt: skip


def _key(text_: str) -> tuple[UUID | None, str | None]:
    """Our keys are UUIDs. Any other text is not ours."""
    try:
        return UUID(text_), None
    except ValueError:
        return None, text_


def _ids(connection: Connection, query: str, **times: object) -> list[str]:
    used = [bindparam(name, type_=UtcDateTime()) for name in times if f":{name}" in query]
    found = connection.execute(text(query).bindparams(*used), {p.key: times[p.key] for p in used})
    return [BARE_KEY.sub(lambda key: str(UUID(key[0])), str(row[0])) for row in found.fetchmany(SHOWN)]
