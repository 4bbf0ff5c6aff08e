"""The audit: compares the books, the orders and the stock with the gateway's own statement.

The statement is loaded into a temporary table, so that each invariant is one query and a million charges need no
memory here. Charges and refunds that are still open are listed separately, because an open outcome is not a breach.
Money at accounts that are not configured any more is listed separately too, because their statements can't be read.
"""

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import bindparam, select, text
from sqlalchemy.engine import Connection

from app.charges import attention, states
from app.charges import audit_queries as queries
from app.charges.models import Charge
from app.charges.report import Report, Sum
from app.charges.statement import beside_the_books, spooled
from app.charges.states import sql_list
from app.database import UtcDateTime, from_now, reading
from app.gateways.base import Gateway, Gateways, StatementEntry
from app.leases import LONGEST, RARELY

GRACE = 60.0
"""Seconds beyond the gateway's deadline in which recovery must have found the outcome or noted why not."""

SHOWN = 100
"""Offenders listed per invariant at most."""

BARE_KEY = re.compile(r"\b[0-9a-f]{32}\b")
"""A key as SQLite stores it. The report shows keys as the gateway does, so that they can be searched for there."""

ENTRY = "s.kind || ' ' || coalesce(cast(s.key AS varchar), s.foreign_key) || coalesce(' (' || s.reference || ')', '')"

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
    Invariant(3, "Every succeeded charge has one bank entry of its amount; our money at the bank is in the books.", f"""
        SELECT 'charge ' || c.id FROM charge c
        LEFT JOIN bank_statement s ON s.key = c.key AND s.kind = 'charge'
        WHERE c.status = 'succeeded' AND c.ended_at < :began AND {queries.COMPARED}
        GROUP BY c.id, c.amount, c.currency
        HAVING count(s.key) <> 1 OR min(s.amount) <> c.amount OR min(s.currency) <> c.currency
        UNION ALL
        SELECT {ENTRY} || ' is not in the books' FROM bank_statement s WHERE s.lost
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

REASON = "coalesce(': ' || {0}.note, '') || coalesce(' (look at it: ' || {0}.attention || ')', '')"
ABSENT = "LEFT JOIN absent_account a ON a.gateway = c.gateway AND a.account = c.account"
ABSENT_WORDS = """
    coalesce(' at ' || a.gateway || ' ' || a.account || ', which is not configured; receipt ' || c.receipt_id, '')
"""
PENDING_ITEMS = f"""
    SELECT 'charge ' || c.id || ' ' || status || {ABSENT_WORDS} || {REASON.format("c")}
    FROM charge c {ABSENT}
    WHERE status IN ({sql_list(states.PENDING)})
    UNION ALL
    SELECT 'refund ' || r.id || ' ' || r.status || {ABSENT_WORDS} || {REASON.format("r")}
    FROM refund r JOIN charge c ON c.id = r.charge_id {ABSENT}
    WHERE r.status IN ({sql_list(states.REFUND_PENDING)})
"""

ADOPTED = """
    SELECT 'charge ' || c.id || ' ' || c.key FROM charge c WHERE c.reason = 'adopted'
"""

FOREIGN = """
    FROM bank_statement s
    LEFT JOIN charge c ON c.key = s.key LEFT JOIN refund r ON r.key = s.key
    WHERE c.id IS NULL AND r.id IS NULL AND NOT s.lost
"""
FOREIGN_SUMS = f"SELECT s.kind, s.currency, count(*), sum(s.amount) {FOREIGN} GROUP BY s.kind, s.currency ORDER BY 1, 2"

NOT_COMPARED = """
    SELECT c.gateway || ' ' || c.account, c.currency, count(*), sum(c.amount)
    FROM charge c JOIN absent_account a ON a.gateway = c.gateway AND a.account = c.account
    WHERE c.status = 'succeeded' GROUP BY c.gateway, c.account, c.currency ORDER BY 1, 2
"""


def asked_and_absent(gateways: Gateways) -> tuple[list[Gateway], set[tuple[str, str]]]:
    """Return the gateways whose statement must be read, and the gateways and accounts of charges that can't be asked.

    Asked are the gateway for new charges and those of all earlier charges, as far as they are configured.
    """
    with reading() as tx:
        used = {(name, account) for name, account in tx.execute(select(Charge.gateway, Charge.account).distinct())}
    absent = {each for each in used if gateways.of(*each) is None}
    asked = [gateways.current, *(found for each in used - absent if (found := gateways.of(*each)))]
    return list({(each.name, each.account): each for each in asked}.values()), absent


def audit(
    entries: Iterable[StatementEntry], overdue: float, shop_id: str = "", absent: Collection[tuple[str, str]] = ()
) -> Report:
    """Check every invariant against the statement's `entries`. Those that bear `shop_id` must be in the books.

    `overdue` is the number of seconds after which a worker must have asked about an open charge. `absent` are the
    gateways and accounts of our charges that were not asked for their statement. Charges that ended while the
    statement was being read are left to the next audit. Raises Unreachable and what reading `entries` raises.
    """
    with reading() as tx:
        began = tx.execute(select(from_now(0))).scalar_one()
    with spooled(entries, shop_id) as file, beside_the_books(file, overdue) as connection:
        late = connection.execute(select(from_now(-overdue))).scalar_one()
        stale = connection.execute(select(from_now(-overdue - LONGEST))).scalar_one()
        long_stale = connection.execute(select(from_now(-overdue - RARELY))).scalar_one()
        _list(connection, absent)
        report = Report({invariant.number: invariant.sentence for invariant in INVARIANTS})
        for invariant in INVARIANTS:
            if offenders := _ids(
                connection, invariant.query, began=began, overdue=late, stale=stale, long_stale=long_stale
            ):
                report.broken[invariant.number] = offenders
        report.open = _ids(connection, PENDING_ITEMS)
        report.stray = _ids(connection, queries.STRAY)
        report.attention = _ids(connection, attention.ENDED)
        report.disputed = _ids(connection, queries.DISPUTED)
        report.adopted = _ids(connection, ADOPTED)
        report.foreign = _ids(connection, f"SELECT {ENTRY} {FOREIGN}")
        report.foreign_sums = _sums(connection, FOREIGN_SUMS)
        report.not_compared = _sums(connection, NOT_COMPARED)
        return report


def _list(connection: Connection, absent: Collection[tuple[str, str]]) -> None:
    connection.exec_driver_sql("CREATE TEMPORARY TABLE absent_account (gateway VARCHAR(20), account VARCHAR(100))")
    for gateway, account in absent:
        values = {"gateway": gateway, "account": account}
        connection.execute(text("INSERT INTO absent_account VALUES (:gateway, :account)"), values)


def _ids(connection: Connection, query: str, **times: object) -> list[str]:
    """Return the query's texts: SHOWN of them, and how many more there are."""
    used = [bindparam(name, type_=UtcDateTime()) for name in times if f":{name}" in query]
    found = connection.execute(text(query).bindparams(*used), {p.key: times[p.key] for p in used})
    shown = [BARE_KEY.sub(lambda key: str(UUID(key[0])), str(row[0])) for row in found.fetchmany(SHOWN)]
    more = sum(1 for _ in found)
    return [*shown, f"and {more:,} more"] if more else shown


def _sums(connection: Connection, query: str) -> list[Sum]:
    return [
        Sum(what, currency, count, int(amount)) for what, currency, count, amount in connection.execute(text(query))
    ]
