"""The same order again: the same goods, total and e-mail address within ten minutes need the shopper's confirmation.

A token can't recognise a second device, cleared cookies or an unsure shopper, so a guard row does. It is locked
inside the claim's transaction: of two claims at once, the second waits for the first and then sees its charge.
"""

import json
import unicodedata
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from uuid import UUID

from sqlalchemy import and_, bindparam, or_, select, update
from sqlalchemy.engine import Connection

from app.charges.models import Charge, SameOrder
from app.charges.states import PENDING, SUCCEEDED
from app.database import InsertOnce, from_now, table
from app.orders.models import Order
from app.orders.stock import Goods

WINDOW = 600
"""Seconds after a payment in which the same order needs a confirmation."""

charges, guards = table(Charge), table(SameOrder)

ENTER = InsertOnce(guards, {"fingerprint": bindparam("fingerprint"), "charge_id": bindparam("charge_id")})
EARLIER = select(guards.c.charge_id).where(guards.c.fingerprint == bindparam("this_fingerprint")).with_for_update()
REPLACE = (
    update(guards).where(guards.c.fingerprint == bindparam("this_fingerprint")).values(charge_id=bindparam("charge_id"))
)
RECENT = (
    select(charges.c.created_at, charges.c.amount, table(Order).c.buyer_id)
    .join(table(Order), table(Order).c.id == charges.c.order_id)
    .where(
        charges.c.id == bindparam("earlier"),
        or_(
            charges.c.status.in_(sorted(PENDING)),
            and_(charges.c.status == SUCCEEDED, charges.c.ended_at > from_now(-WINDOW)),
        ),
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
    """Store this charge in the guard row. Raises OrderedBefore if a recent charge is there, unless `again`."""
    if ENTER.execute(connection, {"fingerprint": fingerprint, "charge_id": charge_id}).rowcount == 1:
        return
    # Lock in one statement and judge in the next: only a new statement sees what the other claim has just committed.
    earlier = connection.execute(EARLIER, {"this_fingerprint": fingerprint}).scalar_one()
    recent = connection.execute(RECENT, {"earlier": earlier}).first()
    if recent and not again:
        raise OrderedBefore(recent.created_at, recent.amount, recent.buyer_id)
    connection.execute(REPLACE, {"this_fingerprint": fingerprint, "charge_id": charge_id})
