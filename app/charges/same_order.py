"""The same order again: the same goods, total and e-mail address within ten minutes need the shopper's confirmation.

A token can't recognise a second device, cleared cookies or an unsure shopper. So each claim enters its charge under a
fingerprint, and every charge with the same fingerprint counts, not only the last one. A guard row per fingerprint is
locked first: of two claims at once, the second waits for the first and then sees its charge.
"""

import json
import unicodedata
from collections.abc import Callable, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

from sqlalchemy import and_, bindparam, delete, insert, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from app.charges.models import Charge, SameOrder, SameOrderCharge
from app.charges.states import PENDING, SUCCEEDED
from app.database import from_now, table, transaction
from app.orders.stock import Goods

WINDOW = 600
"""Seconds after a payment in which the same order needs a confirmation."""

charges, guards, entries = table(Charge), table(SameOrder), table(SameOrderCharge)


def _lock(insert: Callable[..., Any]) -> Any:
    """INSERT … ON CONFLICT DO UPDATE: the row is locked afterwards, whether it was there or not."""
    row = insert(guards).values(fingerprint=bindparam("fingerprint"))
    return row.on_conflict_do_update(index_elements=["fingerprint"], set_={"fingerprint": row.excluded.fingerprint})


LOCK = {"postgresql": _lock(postgresql.insert), "sqlite": _lock(sqlite.insert)}
ENTER = insert(entries).values(fingerprint=bindparam("fingerprint"), charge_id=bindparam("charge_id"))
MATTERS = or_(
    charges.c.status.in_(sorted(PENDING)),
    and_(charges.c.status == SUCCEEDED, charges.c.ended_at > from_now(-WINDOW)),
)
RECENT = (
    select(charges.c.created_at, charges.c.amount, charges.c.buyer_id)
    .join(entries, entries.c.charge_id == charges.c.id)
    .where(entries.c.fingerprint == bindparam("fingerprint"), MATTERS)
    .order_by(charges.c.id.desc())
    .limit(1)
)
FORGET = delete(entries).where(
    entries.c.charge_id.in_(
        select(entries.c.charge_id)
        .join(charges, charges.c.id == entries.c.charge_id)
        .where(~MATTERS)
        .order_by(entries.c.charge_id)
        .limit(bindparam("most"))
    )
)
FORGET_GUARDS = delete(guards).where(
    guards.c.fingerprint.in_(
        select(guards.c.fingerprint)
        .where(~select(entries.c.charge_id).where(entries.c.fingerprint == guards.c.fingerprint).exists())
        .limit(bindparam("most"))
    )
)


class OrderedBefore(Exception):
    """The same order is being paid, or was paid within WINDOW. Nothing was charged. `total` is in minor units."""

    def __init__(self, at: datetime, total: int, buyer_id: UUID) -> None:
        super().__init__(at)
        self.at, self.total, self.buyer_id = at, total, buyer_id


def normalise(email: str) -> str:
    """Return one spelling for all spellings of an e-mail address that belong to the same person."""
    return unicodedata.normalize("NFKC", email).strip().casefold()


def fingerprint(goods: Sequence[Goods], currency: str, email: str) -> str:
    """Return the same text for the same goods at the same prices and the same (normalised) e-mail address."""
    text = json.dumps([normalise(email), currency, sorted(goods)])
    return sha256(text.encode()).hexdigest()


def guard(connection: Connection, charge_id: int, fingerprint: str, *, again: bool) -> None:
    """Enter this charge under its fingerprint. Raises OrderedBefore if another one matters, unless `again`.

    Lock in one statement and judge in the next: only a new statement sees what the other claim has just committed.
    """
    connection.execute(LOCK[connection.dialect.name], {"fingerprint": fingerprint})
    recent = connection.execute(RECENT, {"fingerprint": fingerprint}).first()
    if recent and not again:
        raise OrderedBefore(recent.created_at, recent.amount, recent.buyer_id)
    connection.execute(ENTER, {"fingerprint": fingerprint, "charge_id": charge_id})


def forget(connection: Connection, most: int = 1000) -> int:
    """Delete entries whose charge and window have ended, and locks that nobody needs. Return how many rows."""
    forgotten = connection.execute(FORGET, {"most": most}).rowcount
    return forgotten + connection.execute(FORGET_GUARDS, {"most": most}).rowcount


def prune() -> int:
    """Make one pass of `forget`. Return how many rows were deleted."""
    with transaction() as tx:
        return forget(tx)
