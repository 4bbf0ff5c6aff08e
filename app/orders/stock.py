"""Stock is reserved in the claim's transaction and given back when the charge ends without money."""

from typing import NamedTuple

from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.engine import Connection

from app.database import table
from app.orders.models import ChargeLine, OrderLine, Product

products, order_lines, charge_lines = table(Product), table(OrderLine), table(ChargeLine)

# Products are always locked in the order of their ids, so that two orders for the same products can't deadlock.
WANTED = (
    select(order_lines.c.product_id, order_lines.c.quantity)
    .where(order_lines.c.order_id == bindparam("order_id"))
    .order_by(order_lines.c.product_id)
)
HELD = (
    select(charge_lines.c.product_id, charge_lines.c.quantity)
    .where(charge_lines.c.charge_id == bindparam("charge_id"), charge_lines.c.product_id.is_not(None))
    .order_by(charge_lines.c.product_id)
)
RESERVE = (
    update(products)
    .where(
        products.c.id == bindparam("this_product"),
        products.c.stock >= bindparam("quantity"),
        products.c.on_sale,
    )
    .values(stock=products.c.stock - bindparam("quantity"))
)
GIVE_BACK = (
    update(products)
    .where(products.c.id == bindparam("this_product"))
    .values(stock=products.c.stock + bindparam("quantity"))
)
KEEP = (
    insert(charge_lines)
    .from_select(
        ["charge_id", "position", "product_id", "name", "quantity", "unit_price"],
        select(
            bindparam("charge_id", type_=charge_lines.c.charge_id.type),
            func.row_number().over(order_by=order_lines.c.product_id),
            order_lines.c.product_id,
            products.c.name,
            order_lines.c.quantity,
            products.c.price,
        )
        .join(products, products.c.id == order_lines.c.product_id)
        .where(order_lines.c.order_id == bindparam("order_id")),
    )
    .returning(charge_lines.c.product_id, charge_lines.c.quantity, charge_lines.c.unit_price)
)


class SoldOut(Exception):
    """A product of the order is not sold any more, or its stock is smaller than the order's quantity."""


class Goods(NamedTuple):
    """A quantity of one product at one price (minor units per piece)."""

    product_id: int
    quantity: int
    price: int


def reserve(connection: Connection, charge_id: int, order_id: int) -> list[Goods]:
    """Take the order's goods out of stock and keep them, at today's prices, as the charge's lines. Raises SoldOut.

    The products' rows are locked first, so that the prices kept are those at which the stock was taken.
    """
    for product_id, quantity in connection.execute(WANTED, {"order_id": order_id}).all():
        if connection.execute(RESERVE, {"this_product": product_id, "quantity": quantity}).rowcount != 1:
            raise SoldOut
    kept = connection.execute(KEEP, {"charge_id": charge_id, "order_id": order_id})
    return [Goods(*line) for line in kept]


def give_back(connection: Connection, charge_id: int) -> None:
    """Return the charge's goods to stock. Call it once, in the transaction that ends the charge without money."""
    for product_id, quantity in connection.execute(HELD, {"charge_id": charge_id}).all():
        connection.execute(GIVE_BACK, {"this_product": product_id, "quantity": quantity})
