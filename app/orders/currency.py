"""A shop has one currency permanently, because its products' prices mean nothing in another."""

from sqlalchemy import select
from sqlalchemy.exc import ProgrammingError

from app.database import Unreachable, reading
from app.orders.models import Product
from app.settings import SettingsError


def refuse_other(currency: str) -> None:
    """Raise SettingsError if products are priced in another currency than this one.

    Do nothing if the database can't be reached or is not migrated yet: /readyz and the pages report that.
    """
    try:
        with reading() as tx:
            other = tx.scalar(select(Product.currency).where(Product.currency != currency).limit(1))
    except (Unreachable, ProgrammingError):
        return
    if other:
        raise SettingsError(
            f"SHOP_CURRENCY is {currency}, but there are products priced in {other}; "
            f"set SHOP_CURRENCY={other}, or start with a new DATABASE_URL"
        )
