"""What the modules of this package share: page types, the redirect to a receipt, and this browser's basket."""

from flask import Blueprint, Flask, g, redirect, url_for
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.routing import BaseConverter
from werkzeug.wrappers import Response

from app.database import Unreachable, reading
from app.orders import basket
from app.orders.models import OPEN, Order
from app.security import known_buyer_id

Page = Response | str | tuple[str, int]


def to_receipt(receipt_id: object) -> Response:
    """Redirect to the receipt, as after a POST that paid, all its copies, and everything that comes late."""
    g.receipt = receipt_id  # For the request's line in the log.
    return redirect(url_for("receipts.show", receipt_id=receipt_id), 303)


def open_order() -> Order | None:
    """Return this browser's basket if there is something in it."""
    buyer_id = known_buyer_id()
    if buyer_id is None:
        return None
    with reading() as tx:
        order = basket.newest(tx, buyer_id)
    return order if order and order.state == OPEN and order.lines else None


def basket_count() -> int:
    """Return the number of pieces in this browser's basket, for the page header."""
    buyer_id = known_buyer_id()
    if buyer_id is None:
        return 0
    try:
        with reading() as tx:
            return basket.pieces(tx, buyer_id)
    except (Unreachable, SQLAlchemyError):
        return 0  # Error pages have a header too, also when the database is away.


class ReceiptIdConverter(BaseConverter):
    """A receipt id in an address: 36 characters of 0-9 and a-v, or a UUID of an earlier version."""

    regex = "[0-9a-v]{36}|[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"

    def to_python(self, value: str) -> str:
        """Return the id as it is stored."""
        return value.lower()


def register(app: Flask, *blueprints: Blueprint) -> None:
    """Add the views. Templates call `basket_count()`, so that only pages which show it ask the database."""
    app.url_map.converters["receipt_id"] = ReceiptIdConverter
    app.jinja_env.globals["basket_count"] = basket_count
    for blueprint in blueprints:
        app.register_blueprint(blueprint)
