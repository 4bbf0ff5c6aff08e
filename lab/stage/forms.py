"""The forms that buyers have open."""

from typing import NamedTuple
from uuid import UUID, uuid5

from app.charges.tokens import Token

PRICE = 2400
KEYS, BUYER_IDS, ORDER_IDS = UUID(int=1), UUID(int=2), UUID(int=6)
"""Namespaces of generated ids, so that the same schedule always gets the same ids."""


class Shown(NamedTuple):
    """What a form showed: the buyer, and the goods as "product×quantity"."""

    buyer_id: UUID
    goods: str


def form(order: int, tab: str = "") -> Token:
    """Return the token of one copy of this order's form, with one of the product in the basket."""
    return Token(
        uuid5(KEYS, f"{order}{tab}"),
        uuid5(ORDER_IDS, str(order)),
        2 * order,
        uuid5(BUYER_IDS, str(order)),
        PRICE,
        "EUR",
        issued=0,
    )
