"""Baskets that nobody uses any more. They are deleted after a month, because anybody can begin thousands of them."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import BindParameter, bindparam, case, delete, select, update
from sqlalchemy.engine import Connection

from app.database import from_now, table
from app.orders.models import OPEN, Order, OrderLine

DAY = 86_400
PURGED_AFTER = 30 * DAY
"""Seconds in which a form that was shown can certainly be paid. After that, its order may have been deleted."""

orders, lines = table(Order), table(OrderLine)

NOW_AND_THEN = case((orders.c.in_use_at > from_now(-DAY), orders.c.in_use_at), else_=from_now(0))
"""The new `in_use_at` of an order that is used. It changes at most daily, because it is in an index."""

KEEP = update(orders).where(orders.c.id == bindparam("order_id"), orders.c.state == OPEN).values(in_use_at=NOW_AND_THEN)
LOCK_UNUSED = (
    select(orders.c.id)
    .where(orders.c.in_use_at < from_now(-(PURGED_AFTER + DAY)))
    .order_by(orders.c.in_use_at)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)
IDS: BindParameter[Collection[int]] = bindparam("ids", expanding=True)
KEEP_ALWAYS = update(orders).where(orders.c.id.in_(IDS)).values(in_use_at=None)
DELETE_LINES = delete(lines).where(lines.c.order_id.in_(IDS))
DELETE = delete(orders).where(orders.c.id.in_(IDS))


def is_noted(order: Order) -> bool:
    """Return whether it was noted within a day, by this host's clock, that the order is in use."""
    return order.in_use_at is not None and datetime.now(UTC) - order.in_use_at < timedelta(seconds=DAY)


def keep(connection: Connection, order_id: int) -> None:
    """Note that the basket's form is shown, so that the form can be paid for PURGED_AFTER."""
    connection.execute(KEEP, {"order_id": order_id})


def lock(connection: Connection, most: int) -> Sequence[int]:
    """Return the ids of orders that nobody has used for PURGED_AFTER and a day, at most `most`, and lock their rows.

    No claim can insert a charge for them until this transaction ends. Those that a claim or a change has locked are
    left out.
    """
    return connection.scalars(LOCK_UNUSED, {"most": most}).all()


def keep_always(connection: Connection, ids: Collection[int]) -> None:
    """Exclude these orders from purging, because they have charges."""
    connection.execute(KEEP_ALWAYS, {"ids": ids})


def delete_orders(connection: Connection, ids: Collection[int]) -> None:
    """Delete these orders, which have no charges."""
    connection.execute(DELETE_LINES, {"ids": ids})
    connection.execute(DELETE, {"ids": ids})
