"""Stock is reserved in the claim's transaction and given back when the charge ends without money."""

from typing import NamedTuple

from sqlalchemy import bindparam, select, update
from sqlalchemy.engine import Connection

from app.database import table
from app.orders.models import OrderLine, Product

products, lines = table(Product), table(OrderLine)

# Products are always locked in the order of their ids, so that two orders for the same products can't deadlock.
LINES = (
    select(lines.c.product_id, lines.c.quantity, lines.c.unit_price)
    .where(lines.c.order_id == bindparam("order_id"))
    .order_by(lines.c.product_id)
)
RESERVE = (
    update(products)
    .where(
        products.c.id == bindparam("this_product"),
        products.c.stock >= bindparam("quantity"),
        products.c.on_sale,
    )
    .values(stock=products.c.stock - bindparam("quantity"))
    .returning(products.c.price)
)
GIVE_BACK = (
    update(products)
    .where(products.c.id == bindparam("this_product"))
    .values(stock=products.c.stock + bindparam("quantity"))
)
FREEZE_PRICE = (
    update(lines)
    .where(lines.c.order_id == bindparam("this_order"), lines.c.product_id == bindparam("this_product"))
    .values(unit_price=bindparam("price"))
)


class SoldOut(Exception):
    """A product of the order is not sold any more, or its stock is smaller than the order's quantity."""


class Goods(NamedTuple):
    """A quantity of one product at one price (minor units per piece)."""

    product_id: int
    quantity: int
    price: int


def reserve(connection: Connection, order_id: int) -> list[Goods]:
    """Take the order's goods out of stock and freeze today's prices on its lines. Raises SoldOut."""
    held = connection.execute(LINES, {"order_id": order_id}).all()
    return [_reserve(connection, order_id, *line) for line in held]


def _reserve(connection: Connection, order_id: int, product_id: int, quantity: int, price_when_added: int) -> Goods:
    price = connection.execute(RESERVE, {"this_product": product_id, "quantity": quantity}).scalar()
    if price is None:
        raise SoldOut
    if price != price_when_added:
        connection.execute(FREEZE_PRICE, {"this_order": order_id, "this_product": product_id, "price": price})
    return Goods(product_id, quantity, price)


def give_back(connection: Connection, order_id: int) -> None:
    """Return the order's goods to stock. Call it once, in the transaction that ends the charge without money."""
    for product_id, quantity, _ in connection.execute(LINES, {"order_id": order_id}).all():
        connection.execute(GIVE_BACK, {"this_product": product_id, "quantity": quantity})
