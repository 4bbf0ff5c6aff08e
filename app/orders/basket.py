"""The basket: the buyer's open order. It begins with the first thing put in, and a claim freezes it."""

from uuid import UUID

from sqlalchemy import bindparam, delete, func, insert, select, update
from sqlalchemy.engine import Connection

from app.database import from_now, insert_once, objects, table
from app.orders import stock
from app.orders.models import OPEN, PLACED, Order, OrderLine, Product

MOST_OF_ONE = 99
MOST_LINES = 50

orders, lines = table(Order), table(OrderLine)

PLACE = (
    update(orders)
    .where(
        orders.c.id == bindparam("order"), orders.c.version == bindparam("shown"), orders.c.state == OPEN
    )
    .values(state=PLACED)
)
REOPEN = update(orders).where(orders.c.id == bindparam("order"), orders.c.state == PLACED).values(state=OPEN)
NEWEST = select(orders.c.id, orders.c.state).where(orders.c.buyer == bindparam("buyer")).order_by(orders.c.id.desc())

PIECES = (
    select(func.sum(lines.c.quantity))
    .join(orders, orders.c.id == lines.c.order_id)
    .where(orders.c.buyer == bindparam("buyer"), orders.c.state == OPEN)
)


class NotOnSale(Exception):
    """There is no such product, or not any more."""


class NotEnough(Exception):
    """Fewer are left than were asked for; `left` says how many."""

    def __init__(self, left: int) -> None:
        super().__init__(left)
        self.left = left


class BasketFull(Exception):
    """More different things than one order may hold."""


class OrderPlaced(Exception):
    """The order is being paid: it can't be changed now."""


class OrderChanged(Exception):
    """The order is not what the form showed: another version or another total."""


def newest(connection: Connection, buyer: UUID) -> Order | None:
    """The buyer's latest order, open or placed, with its lines and products."""
    latest = select(Order).where(Order.buyer == buyer).order_by(Order.id.desc()).limit(1)
    return objects(connection).scalars(latest).first()


def pieces(connection: Connection, buyer: UUID) -> int:
    """How many pieces are in the buyer's basket."""
    return connection.execute(PIECES, {"buyer": buyer}).scalar() or 0


def put(connection: Connection, buyer: UUID, slug: str, quantity: int, currency: str, paid: int | None = None) -> None:
    """Make `quantity` the number of this product in the basket; 0 removes it.

    `paid` is the id of the order that the caller knows to be paid: only after that one a new order begins.
    Raises NotOnSale, NotEnough, BasketFull, OrderPlaced.
    """
    order = _raise_version(connection, buyer, currency, paid)
    product = objects(connection).scalars(select(Product).where(Product.slug == slug)).first()
    if product is None or not (product.on_sale or quantity == 0):
        raise NotOnSale
    if quantity > product.stock:
        raise NotEnough(product.stock)
    connection.execute(delete(lines).where(lines.c.order_id == order, lines.c.product_id == product.id))
    if quantity:
        _add_line(connection, order, product, quantity)


def _raise_version(connection: Connection, buyer: UUID, currency: str, paid: int | None) -> int:
    """The id of the buyer's open order, begun where there is none. Raising the version locks its row."""
    latest = connection.execute(NEWEST.limit(1), {"buyer": buyer}).first()
    if latest is None or latest.id == paid:
        # Of two at once one begins it; the other finds it begun.
        first = {"buyer": buyer, "state": OPEN, "version": 1, "currency": currency}
        connection.execute(insert_once(orders).values(**first, created_at=from_now(0)))
    open_order = update(orders).where(orders.c.buyer == buyer, orders.c.state == OPEN)
    order = connection.execute(open_order.values(version=orders.c.version + 1).returning(orders.c.id)).scalar()
    if order is None:
        raise OrderPlaced
    return int(order)


def _add_line(connection: Connection, order: int, product: Product, quantity: int) -> None:
    held = connection.scalar(select(func.count()).select_from(lines).where(lines.c.order_id == order)) or 0
    if held >= MOST_LINES:
        raise BasketFull
    line = {"order_id": order, "product_id": product.id, "quantity": quantity, "unit_price": product.price}
    connection.execute(insert(lines).values(**line))


def place(connection: Connection, order: int, version: int, total: int) -> list[stock.Goods]:
    """Freeze the order as the form showed it, its goods reserved. `total` is in minor units.

    Raises OrderChanged unless version and total are what was shown, and stock.SoldOut.
    """
    if connection.execute(PLACE, {"order": order, "shown": version}).rowcount != 1:
        raise OrderChanged
    goods = stock.reserve(connection, order)
    if sum(line.quantity * line.price for line in goods) != total:
        raise OrderChanged
    return goods


def reopen(connection: Connection, order: int) -> None:
    """Undo `place`: the goods go back into stock and the order is the buyer's basket again."""
    stock.give_back(connection, order)
    connection.execute(REOPEN, {"order": order})
