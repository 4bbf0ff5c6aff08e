"""Goods that unconfirmed payments hold: for a limited time if others need them, and only a share per network.

Anybody can begin payments that wait for a confirmation at the bank, and never confirm them. Two rules keep the goods
for those who pay:

* A claim that finds too little stock marks the unconfirmed payments that hold it (`want`). Once such a payment's
  `hold_until` has passed, recovery fences its key at the gateway, and only then gives the goods back.
* The unconfirmed payments of one network may hold half of the pieces that are free without them (`check`), so each
  further network of an attacker gets less. A few pieces are always allowed.
"""

from collections.abc import Collection, Mapping

import structlog
from sqlalchemy import ColumnElement, Update, bindparam, case, func, select, update
from sqlalchemy.engine import Connection

from app.charges.models import Charge
from app.charges.rows import constants
from app.charges.states import PENDING, PROCESSING, REQUIRES_ACTION
from app.charges.tokens import Token
from app.database import Unreachable, from_now, table, transaction
from app.orders.models import ChargeLine, Order, OrderLine, Product
from app.unindexed import unindexed

SHARE = 2
"""One network's unconfirmed payments may hold one piece in this number of pieces."""

LEAST = 3
"""Pieces of a product that the unconfirmed payments of a network may always hold."""

log = structlog.get_logger()
charges, lines, products = table(Charge), table(ChargeLine), table(Product)
orders, order_lines = table(Order), table(OrderLine)

theirs = lines.alias("theirs")
IS_WANTED = (charges.c.wanted_at <= from_now(0)) & (charges.c.hold_until <= from_now(0))
"""Recovery must release the goods. (Not IS NOT NULL: in a RETURNING clause, SQLite 3.40 finds it true in every row.)"""

UNCONFIRMED = frozenset({PROCESSING, REQUIRES_ACTION})
"""Payments that wait for a confirmation, and those of which it is not known yet whether they will."""

OTHERS = (
    select(func.coalesce(func.sum(theirs.c.quantity), 0))
    .join(charges, charges.c.id == theirs.c.charge_id)
    .where(
        charges.c.network == bindparam("of_network"),
        unindexed(charges.c.status).in_(sorted(UNCONFIRMED)),
        charges.c.id != lines.c.charge_id,
        theirs.c.product_id == lines.c.product_id,
    )
    .correlate(lines)
    .scalar_subquery()
)
"""Pieces that the network's other unconfirmed payments hold of a product."""

CLAIMED_AND_HELD = (
    select(lines.c.name, lines.c.quantity, products.c.stock, OTHERS)
    .join(products, products.c.id == lines.c.product_id)
    .where(lines.c.charge_id == bindparam("charge_id"))
)
"""For each line of the claim: name, pieces, those that stay free, and those of the network's other payments."""

ORDERED = (
    select(order_lines.c.product_id)
    .join(orders, orders.c.id == order_lines.c.order_id)
    .join(products, products.c.id == order_lines.c.product_id)
    .where(orders.c.random_id == bindparam("order_random_id"))
)
LACKING = ORDERED.where(products.c.stock < order_lines.c.quantity)


def _mark(wanted: ColumnElement[bool], *whose: ColumnElement[bool]) -> Update:
    """Mark unconfirmed payments that hold `wanted`, and make each due when its time is over.

    Rows that others have locked are skipped: they are changing, and waiting for several could deadlock.
    """
    found = (
        select(charges.c.id)
        .where(
            charges.c.status.in_(constants({REQUIRES_ACTION})),
            charges.c.hold_until.is_not(None),
            charges.c.wanted_at.is_(None),
            select(lines.c.charge_id).where(lines.c.charge_id == charges.c.id, wanted).exists(),
            *whose,
        )
        .order_by(charges.c.id)
        .with_for_update(skip_locked=True, key_share=True)
    )
    due = case((charges.c.hold_until < charges.c.ask_at, charges.c.hold_until), else_=charges.c.ask_at)
    return update(charges).where(charges.c.id.in_(found)).values(wanted_at=from_now(0), ask_at=due)


MARK_LACKING = _mark(lines.c.product_id.in_(LACKING))
MARK_OF_NETWORK = _mark(lines.c.product_id.in_(ORDERED), charges.c.network == bindparam("of_network"))

MAY_COME_BACK = (
    select(lines.c.product_id, func.sum(lines.c.quantity))
    .join(charges, charges.c.id == lines.c.charge_id)
    .where(charges.c.status.in_(constants(PENDING)), lines.c.product_id.in_(bindparam("product_ids", expanding=True)))
    .group_by(lines.c.product_id)
)


class NetworkFull(Exception):
    """The network's unconfirmed payments would hold too many pieces of a product. Nothing was charged.

    `name` is that of the product, `left` the number of pieces that the network can order now. `alone` means that no
    other unconfirmed payment of the network holds this product.
    """

    def __init__(self, name: str, left: int, *, alone: bool) -> None:
        super().__init__(name, left)
        self.name, self.left, self.alone = name, left, alone


def check(connection: Connection, charge_id: int, network: str | None) -> None:
    """Raise NetworkFull if this claim's network would hold too much. `network` is None if it is not known.

    Call it in the claim, after its goods are reserved. That has locked the products' rows, so of two claims at once the
    second sees what the first one holds.
    """
    if network is None:
        return
    values = {"charge_id": charge_id, "of_network": network}
    for name, quantity, free, others in connection.execute(CLAIMED_AND_HELD, values):
        most = max(LEAST, (free + quantity + others) // SHARE)
        if others + quantity > most:
            raise NetworkFull(name, max(0, most - others), alone=others == 0)


def want(token: Token, network: str | None = None) -> None:
    """Mark the unconfirmed payments that hold goods which this form's order lacks; with `network`, its own. Never fail.

    Call it after the claim was rolled back.
    """
    values = {"order_random_id": token.order_random_id, "of_network": network}
    try:
        with transaction() as tx:
            marked = tx.execute(MARK_OF_NETWORK if network else MARK_LACKING, values).rowcount
    except Unreachable:
        log.warning("holds_unmarked", order_random_id=str(token.order_random_id))
    else:
        if marked:
            log.info("holds_marked", charges=marked)


def may_come_back(connection: Connection, product_id: int) -> int:
    """Return how many pieces of a product pending payments hold."""
    return all_that_may_come_back(connection, [product_id]).get(product_id, 0)


def all_that_may_come_back(connection: Connection, product_ids: Collection[int]) -> Mapping[int, int]:
    """Return how many pieces of each product pending payments hold. Products of which they hold none are left out."""
    found = connection.execute(MAY_COME_BACK, {"product_ids": list(product_ids)})
    return {product_id: int(pieces) for product_id, pieces in found}
