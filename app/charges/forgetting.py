"""Forget a browser: its orders and charges get a new random buyer id, which no browser has.

If only the cookie were cleared, a copy of it would still open all of them.
"""

from uuid import UUID

from sqlalchemy import bindparam, select, update

from app.charges.models import Charge
from app.charges.states import PENDING
from app.database import table, transaction
from app.identifiers import new_uuid
from app.orders.basket import new_version
from app.orders.models import Order

charges, orders = table(Charge), table(Order)

LOCK_CHARGES = (
    select(charges.c.id)
    .where(charges.c.order_id.in_(select(orders.c.id).where(orders.c.buyer_id == bindparam("buyer_id"))))
    .order_by(charges.c.id)
    .with_for_update(of=charges, key_share=True)
)
# The version is renewed, so that a claim which found the order under the earlier buyer fails.
MOVE_ORDERS = (
    update(orders)
    .where(orders.c.buyer_id == bindparam("earlier"))
    .values(buyer_id=bindparam("nobody"), version=bindparam("renewed"))
)
MOVED = charges.c.order_id.in_(select(orders.c.id).where(orders.c.buyer_id == bindparam("nobody")))
PENDING_CHARGE = select(charges.c.receipt_id).where(MOVED, charges.c.status.in_(sorted(PENDING))).limit(1)
MOVE_CHARGES = update(charges).where(MOVED).values(buyer_id=bindparam("nobody"))


class PaymentPending(Exception):
    """A payment of this browser has not ended. Nothing was forgotten: it may need its buyer."""

    def __init__(self, receipt_id: str) -> None:
        super().__init__(receipt_id)
        self.receipt_id = receipt_id


def forget(buyer_id: UUID) -> None:
    """Give the buyer's orders and their charges a new buyer id, which nobody has. Raises PaymentPending.

    The orders' rows are locked before the charges are read, so a claim either comes first and is seen here, or finds
    the order changed. The charges are locked before the orders, as everywhere.
    """
    nobody = new_uuid()
    with transaction() as tx:
        tx.execute(LOCK_CHARGES, {"buyer_id": buyer_id}).all()
        tx.execute(MOVE_ORDERS, {"earlier": buyer_id, "nobody": nobody, "renewed": new_version()})
        pending = tx.scalar(PENDING_CHARGE, {"nobody": nobody})
        if pending is not None:
            raise PaymentPending(pending)
        tx.execute(MOVE_CHARGES, {"nobody": nobody})
