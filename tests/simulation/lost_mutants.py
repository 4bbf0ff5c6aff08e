"""Broken versions of the defences that matter when the database goes back to an earlier moment."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import bindparam, literal, update
from sqlalchemy.engine import Connection

from app.charges import audit, protocol, rows, strays
from app.charges.tokens import Token
from app.database import InsertOnce, Unreachable, from_now, reading, transaction
from app.mail import outbox
from lab.stage.forms import ORDER_IDS
from lab.stage.stage import Stage
from tests.simulation.mutants import Mutant

BY_ID_ALONE = (
    update(rows.charges)
    .where(
        rows.charges.c.id == bindparam("charge_id"),
        rows.charges.c.status == bindparam("seen"),
        bindparam("seen_key", type_=rows.charges.c.key.type).is_not(None),
    )
    .values(dict(rows.COMPARE_AND_SET._values))
)


CLAIM_OF_ANYBODY = InsertOnce(
    rows.charges,
    {name: bindparam(name, type_=rows.charges.c[name].type) for name in rows.CLAIMED}
    | {"order_id": rows.orders.c.id, "buyer_id": bindparam("buyer_id", type_=rows.charges.c.buyer_id.type)}
    | {"arrivals": literal(1), "other_arrivals": literal(0), "refunded": literal(0), "times_asked": literal(0)}
    | {"created_at": from_now(0), "ask_at": from_now(bindparam("unattended"))},
    where=(rows.orders.c.random_id == bindparam("order_random_id"),),
    returning=rows.COLUMNS,
)


def order_random_id_repeats(stage: Stage) -> UUID:
    """Return an id that a lost order had too, as a counter does."""
    return uuid5(ORDER_IDS, str(stage.storage.rows("SELECT count(*) FROM orders")[0][0] + 1))


def order_version_repeats(stage: Stage) -> int:
    """Return a version that a lost order had too, as a counter does."""
    return int(stage.storage.rows("SELECT coalesce(max(version), 0) + 1 FROM orders")[0][0])


real_find = rows.find


def finds_without_lock(connection: Connection, token: Token, *, lock: bool = False) -> Any:
    """Read the charge that the request lost to, without its lock: this COMMIT waits for no standby."""
    return real_find(connection, token)


def probes_by_reading(work: Callable[[Connection], Any]) -> Any:
    """After a lost COMMIT, only look whether the newest charge is there."""
    try:
        with transaction() as connection:
            return work(connection)
    except Unreachable:
        with reading() as connection:
            row = connection.execute(rows.BY_ID.order_by(rows.charges.c.id.desc()), {"charge_id": 1}).first()
        if row:
            return rows.snapshot(row)
        raise


def random_refund_key(_charge_key: UUID, _name: str) -> UUID:
    """Return a new key, also if the stray payment had a refund before the database went back."""
    return outbox.uuid4()


IDS_REPEAT = (
    (Stage, "order_random_id", order_random_id_repeats),
    (Stage, "order_version", order_version_repeats),
)
LISTS_NOTHING = "SELECT '' WHERE 1 = 0"

LOST_MUTANTS = (
    Mutant("an order's id and version repeat, and its buyer is not checked", "restore, stranger",
           (*IDS_REPEAT, (rows, "CLAIM", CLAIM_OF_ANYBODY))),
    Mutant("an order's id and version repeat", "restore, same buyer", IDS_REPEAT),
    Mutant("an outcome is recorded by the row's id alone", "promotion, under way",
           ((rows, "COMPARE_AND_SET", BY_ID_ALONE),)),
    Mutant("the audit does not list foreign money", "promotion, again", ((audit, "FOREIGN", LISTS_NOTHING),)),
    Mutant("a stray payment's refund gets a random key", "promotion, stray", ((strays, "uuid5", random_refund_key),)),
    Mutant("a losing claim reads without a lock", "failover, twins", ((rows, "find", finds_without_lock),)),
    Mutant("a lost COMMIT is looked up by reading", "failover, twins", ((protocol, "confirmed", probes_by_reading),)),
)  # fmt: skip
