"""Delete baskets that nobody has used for a month and that no charge belongs to."""

import structlog
from sqlalchemy import bindparam, select

from app.charges.models import Charge
from app.database import table, transaction
from app.orders import unused

MOST = 100
"""Orders per pass at most, so that each transaction is short."""

charges = table(Charge)
CHARGED = select(charges.c.order_id).where(charges.c.order_id.in_(bindparam("ids", expanding=True))).distinct()

log = structlog.get_logger()


def run() -> int:
    """Make one pass. Return the number of orders deleted.

    Lock in one statement and look for charges in the next: only a new statement sees what a claim has just committed.
    """
    with transaction() as tx:
        ids = set(unused.lock(tx, MOST))
        if not ids:
            return 0
        charged = set(tx.scalars(CHARGED, {"ids": ids}))
        unused.keep_always(tx, charged)
        unused.delete_orders(tx, ids - charged)
    log.info("baskets_purged", number=len(ids - charged))
    return len(ids - charged)
