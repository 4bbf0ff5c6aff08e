"""The first products of an empty shop."""

from sqlalchemy import func, insert, select

from app.database import transaction
from app.money import exponent
from app.orders.catalogue import CATALOGUE, Piece
from app.orders.models import Product


def seed(currency: str) -> int:
    """Put the catalogue into an empty shop; answers how many products were put in, 0 where there were some."""
    with transaction() as tx:
        if tx.scalar(select(func.count()).select_from(Product)):
            return 0
        tx.execute(insert(Product), [_product(piece, currency) for piece in CATALOGUE])
    return len(CATALOGUE)


def _product(piece: Piece, currency: str) -> dict[str, object]:
    # A yen is about a cent, so its prices are of the size of other currencies' minor units.
    price = int(piece.price.scaleb(max(exponent(currency), 2)))
    return {
        "slug": piece.slug, "name": piece.name, "description": piece.description, "image": piece.image,
        "price": price, "currency": currency, "stock": piece.stock, "stocked": piece.stock, "on_sale": True,
    }  # fmt: skip
