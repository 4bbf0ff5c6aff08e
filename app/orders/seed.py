"""The first products of an empty shop."""

from sqlalchemy import func, insert, select

from app.database import transaction
from app.money import exponent
from app.orders.catalogue import CATALOGUE, CatalogueItem
from app.orders.models import Product


def seed(currency: str) -> int:
    """Insert the catalogue into an empty shop. Return the number of products inserted, 0 if there were some."""
    with transaction() as tx:
        if tx.scalar(select(func.count()).select_from(Product)):
            return 0
        tx.execute(insert(Product), [_product(item, currency) for item in CATALOGUE])
    return len(CATALOGUE)


def _product(item: CatalogueItem, currency: str) -> dict[str, object]:
    # A yen is about a cent, so a price in yen has the size of other currencies' minor units.
    price = int(item.price.scaleb(max(exponent(currency), 2)))
    return {
        "slug": item.slug, "name": item.name, "description": item.description, "image": item.image,
        "price": price, "currency": currency, "stock": item.stock, "stocked": item.stock, "on_sale": True,
    }  # fmt: skip
