"""A shop has one currency for good: its products' prices mean nothing in another."""

from sqlalchemy import select
from sqlalchemy.exc import ProgrammingError

from app.database import Unreachable, reading
from app.orders.models import Product
from app.settings import SettingsError


def refuse_other(currency: str) -> None:
    """Raises SettingsError where products are priced in another currency than this one.

    A database that is not migrated yet or can't be reached has nothing to say: /readyz and the pages do.
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
