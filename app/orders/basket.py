"""The basket: the buyer's open order. The first product begins it, and a claim freezes it."""

import secrets
from collections.abc import Callable
from uuid import UUID

from sqlalchemy import bindparam, delete, func, insert, select, update
from sqlalchemy.engine import Connection

from app.database import InsertOnce, from_now, objects, table
from app.identifiers import new_uuid
from app.orders import stock, unused
from app.orders.models import OPEN, PLACED, Order, OrderLine, Product
from app.unindexed import unindexed

MOST_OF_ONE = 99
MOST_LINES = 50

orders, lines = table(Order), table(OrderLine)

BEGIN = InsertOnce(
    orders,
    {name: bindparam(name) for name in ("buyer_id", "currency", "random_id", "version")}
    | {"state": OPEN, "created_at": from_now(0), "in_use_at": from_now(0)},
)
FREEZE = (
    update(orders)
    .where(
        orders.c.id == bindparam("order_id"), orders.c.version == bindparam("shown"), unindexed(orders.c.state) == OPEN
    )
    .values(state=PLACED, in_use_at=None)
)
REOPEN = update(orders).where(orders.c.id == bindparam("order_id"), orders.c.state == PLACED).values(state=OPEN)
NEWEST = (
    select(orders.c.id, orders.c.state)
    .where(orders.c.buyer_id == bindparam("buyer_id"))
    .order_by(orders.c.id.desc())
    .limit(1)
)
PIECES = (
    select(func.sum(lines.c.quantity))
    .join(orders, orders.c.id == lines.c.order_id)
    .where(orders.c.buyer_id == bindparam("buyer_id"), orders.c.state == OPEN)
)


class NotOnSale(Exception):
    """The product does not exist or is no longer sold."""


class NotEnough(Exception):
    """The stock is smaller than the quantity, also with what may come back. `left` is the stock."""

    def __init__(self, left: int) -> None:
        super().__init__(left)
        self.left = left


class BasketFull(Exception):
    """The order has MOST_LINES lines already."""


class OrderPlaced(Exception):
    """The order is being paid and can't be changed now."""


class OrderChanged(Exception):
    """The order is not what the form showed: its version or its total is different."""


class OrderUnknown(Exception):
    """There is no such order of this buyer: it was purged, or the database was restored to an earlier moment."""


def newest(connection: Connection, buyer_id: UUID) -> Order | None:
    """Return the buyer's newest order, open or placed, with its lines and products; or None."""
    latest = select(Order).where(Order.buyer_id == buyer_id).order_by(Order.id.desc()).limit(1)
    return objects(connection).scalars(latest).first()


def has_open(connection: Connection, buyer_id: UUID) -> bool:
    """Return whether the buyer has an open order, also an empty one."""
    latest = connection.execute(NEWEST, {"buyer_id": buyer_id}).first()
    return latest is not None and latest.state == OPEN


def pieces(connection: Connection, buyer_id: UUID) -> int:
    """Return the number of pieces in the buyer's basket."""
    return connection.execute(PIECES, {"buyer_id": buyer_id}).scalar() or 0


def put(
    connection: Connection, buyer_id: UUID, slug: str, quantity: int, currency: str, paid_order_id: int | None = None,
    may_come_back: Callable[[Connection, int], int] = lambda connection, product_id: 0,
) -> None:  # fmt: skip
    """Set the quantity of this product in the basket; 0 removes it.

    A new order begins only if the buyer has none, or if the newest one is `paid_order_id`, which the caller knows to
    be paid. Pieces that are not in stock but may come back can be put into the basket, too. Raises NotOnSale,
    NotEnough, BasketFull or OrderPlaced.
    """
    order_id = _lock_open_order(connection, buyer_id, currency, paid_order_id)
    product = objects(connection).scalars(select(Product).where(Product.slug == slug)).first()
    if product is None or not (product.on_sale or quantity == 0):
        raise NotOnSale
    if quantity > product.stock and quantity > product.stock + may_come_back(connection, product.id):
        raise NotEnough(product.stock)
    connection.execute(delete(lines).where(lines.c.order_id == order_id, lines.c.product_id == product.id))
    if quantity:
        _add_line(connection, order_id, product, quantity)


def _lock_open_order(connection: Connection, buyer_id: UUID, currency: str, paid_order_id: int | None) -> int:
    """Return the id of the buyer's open order, begun if necessary. Renewing its version locks the row."""
    change = update(orders).where(orders.c.buyer_id == buyer_id, orders.c.state == OPEN).returning(orders.c.id)
    for _ in range(2):  # If the order was purged after it was found, the second round begins another one.
        latest = connection.execute(NEWEST, {"buyer_id": buyer_id}).first()
        if latest is None or latest.id == paid_order_id:
            # Of two requests at once, one begins the order and the other finds it.
            order = {"random_id": new_uuid(), "version": new_version()}
            BEGIN.execute(connection, order | {"buyer_id": buyer_id, "currency": currency})
        order_id = connection.execute(change.values(version=new_version(), in_use_at=unused.NOW_AND_THEN)).scalar()
        if order_id is not None:
            return int(order_id)
    raise OrderPlaced


def _add_line(connection: Connection, order_id: int, product: Product, quantity: int) -> None:
    held = connection.scalar(select(func.count()).select_from(lines).where(lines.c.order_id == order_id)) or 0
    if held >= MOST_LINES:
        raise BasketFull
    line = {"order_id": order_id, "product_id": product.id, "quantity": quantity, "unit_price": product.price}
    connection.execute(insert(lines).values(**line))


def new_version() -> int:
    """Return a random number of 63 bits, never 0."""
    return secrets.randbelow(2**63 - 1) + 1


def buyer_of(connection: Connection, random_id: UUID) -> UUID | None:
    """Return the buyer of this order, or None if there is no such order."""
    return connection.scalar(select(orders.c.buyer_id).where(orders.c.random_id == random_id))


def freeze(connection: Connection, charge_id: int, order_id: int, version: int, total: int) -> list[stock.Goods]:
    """Place the order as the form showed it, reserve its stock, and keep its lines with the charge.

    Return the goods. `total` is in minor units. Raises OrderChanged if version or total are not what was shown, and
    stock.SoldOut.
    """
    if connection.execute(FREEZE, {"order_id": order_id, "shown": version}).rowcount != 1:
        raise OrderChanged
    goods = stock.reserve(connection, charge_id, order_id)
    if sum(line.quantity * line.price for line in goods) != total:
        raise OrderChanged
    return goods


def reopen(connection: Connection, charge_id: int, order_id: int) -> None:
    """Return the charge's stock and make the order the buyer's basket again."""
    stock.give_back(connection, charge_id)
    connection.execute(REOPEN, {"order_id": order_id})
