"""Stock is reserved with the claim and given back when the charge ends without money."""

from typing import NamedTuple

from sqlalchemy import bindparam, select, update
from sqlalchemy.engine import Connection

from app.database import table
from app.orders.models import OrderLine, Product

products, lines = table(Product), table(OrderLine)

# Products are always touched in the order of their ids: two orders for the same goods can't lock each other out.
LINES = (
    select(lines.c.product_id, lines.c.quantity, lines.c.unit_price)
    .where(lines.c.order_id == bindparam("order"))
    .order_by(lines.c.product_id)
)
RESERVE = (
    update(products)
    .where(
        products.c.id == bindparam("product"),
        products.c.stock >= bindparam("quantity"),
        products.c.on_sale,
    )
    .values(stock=products.c.stock - bindparam("quantity"))
    .returning(products.c.price)
)
GIVE_BACK = (
    update(products)
    .where(products.c.id == bindparam("product"))
    .values(stock=products.c.stock + bindparam("quantity"))
)
FREEZE_PRICE = (
    update(lines)
    .where(lines.c.order_id == bindparam("order"), lines.c.product_id == bindparam("product"))
    .values(unit_price=bindparam("price"))
)


class SoldOut(Exception):
    """A product of the order is gone, or there is less of it than the order asks for."""


class Goods(NamedTuple):
    """So many of one product at one price (minor units)."""

    product: int
    quantity: int
    price: int


def reserve(connection: Connection, order: int) -> list[Goods]:
    """Take the order's goods out of stock and freeze their prices of this moment. Raises SoldOut."""
    held = connection.execute(LINES, {"order": order}).all()
    return [_reserve(connection, order, *line) for line in held]


def _reserve(connection: Connection, order: int, product: int, quantity: int, price_when_added: int) -> Goods:
    price = connection.execute(RESERVE, {"product": product, "quantity": quantity}).scalar()
    if price is None:
        raise SoldOut
    if price != price_when_added:
        connection.execute(FREEZE_PRICE, {"order": order, "product": product, "price": price})
    return Goods(product, quantity, price)


def give_back(connection: Connection, order: int) -> None:
    """Put the order's goods back into stock. Once only: the caller has just ended the charge that held them."""
    for product, quantity, _ in connection.execute(LINES, {"order": order}).all():
        connection.execute(GIVE_BACK, {"product": product, "quantity": quantity})
