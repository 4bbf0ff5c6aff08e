"""Orders for payments that the books have lost: nobody knows the goods, so they have one line and hold no stock."""

from uuid import UUID

from sqlalchemy import insert
from sqlalchemy.engine import Connection

from app.database import from_now, table
from app.identifiers import new_uuid
from app.orders.basket import new_version
from app.orders.models import PLACED, ChargeLine, Order

NAME = "Adopted payment"


def place(connection: Connection, currency: str) -> tuple[UUID, UUID]:
    """Insert a placed order with a new buyer id, which no browser has. Return the order's random id and buyer id."""
    random_id, buyer_id = new_uuid(), new_uuid()
    row = {"random_id": random_id, "buyer_id": buyer_id, "currency": currency, "state": PLACED}
    connection.execute(insert(table(Order)).values(**row, version=new_version(), created_at=from_now(0)))
    return random_id, buyer_id


def add_line(connection: Connection, charge_id: int, amount: int) -> None:
    """Insert the only line of the charge, over `amount` (minor units)."""
    line = {"charge_id": charge_id, "position": 1, "name": NAME, "quantity": 1, "unit_price": amount}
    connection.execute(insert(table(ChargeLine)).values(**line))
