"""The same order again: the same goods, total and e-mail within ten minutes are not charged before the shopper says so.

Other device, cleared cookies, a shopper who was not sure: the token can't know, so a guard row does. It is
written inside the claim's transaction; of two at once, the second waits for the first and then sees it.
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
from app.database import from_now, insert_once, table
from app.orders.models import Order
from app.orders.stock import Goods

WINDOW = 600
"""Seconds after a payment in which the same order is asked about."""

charges, guards = table(Charge), table(SameOrder)

ENTER = insert_once(guards).values(fingerprint=bindparam("fingerprint"), charge_id=bindparam("charge"))
EARLIER = select(guards.c.charge_id).where(guards.c.fingerprint == bindparam("fingerprint_")).with_for_update()
REPLACE = (
    update(guards).where(guards.c.fingerprint == bindparam("fingerprint_")).values(charge_id=bindparam("charge"))
)
RECENT = (
    select(charges.c.created_at, charges.c.amount, table(Order).c.buyer)
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
    """The same order is being paid, or was within ten minutes; nothing was charged. `total` is in minor units."""

    def __init__(self, at: datetime, total: int, buyer: UUID) -> None:
        super().__init__(at)
        self.at, self.total, self.buyer = at, total, buyer


def normalise(email: str) -> str:
    """The e-mail address as far as two spellings of it are the same person's."""
    return unicodedata.normalize("NFKC", email).strip().casefold()


def fingerprint(goods: Sequence[Goods], currency: str, email: str) -> str:
    """The same for the same goods at the same prices for the same (normalised) e-mail address."""
    text = json.dumps([normalise(email), currency, sorted(goods)])
    return sha256(text.encode()).hexdigest()


def guard(connection: Connection, charge: int, mark: str, *, again: bool) -> None:
    """Put this charge on the guard row. Raises OrderedBefore where another one holds it, unless `again`."""
    if connection.execute(ENTER, {"fingerprint": mark, "charge": charge}).rowcount == 1:
        return
    # Locked first and judged in a statement of its own: only that one sees what a rival has just committed.
    earlier = connection.execute(EARLIER, {"fingerprint_": mark}).scalar_one()
    recent = connection.execute(RECENT, {"earlier": earlier}).first()
    if recent and not again:
        raise OrderedBefore(recent.created_at, recent.amount, recent.buyer)
    connection.execute(REPLACE, {"fingerprint_": mark, "charge": charge})
