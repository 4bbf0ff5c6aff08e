"""A payment at the stand-in that the shop has recorded, and time that passes for its refunds."""

from sqlalchemy import update

from app.charges import refund_rows, rows
from app.charges.audit import Report, audit
from app.charges.models import Refund
from app.charges.rows import ChargeSnapshot
from app.database import from_now, reading, transaction
from tests.shops import Shop

HOUR = 3600.0


def only_charge(shop: Shop) -> ChargeSnapshot:
    """Return the shop's only charge."""
    with shop.app.app_context(), reading() as tx:
        return rows.get(tx, shop.value("SELECT id FROM charge"))


def grow_older(shop: Shop, seconds: float) -> None:
    """Let every refund have been claimed this many seconds ago, as by the database's clock."""
    with shop.app.app_context(), transaction() as tx:
        tx.execute(
            update(Refund).values(
                created_at=from_now(-seconds), send_until=from_now(refund_rows.SEND_FOR - seconds), ask_at=from_now(-1)
            )
        )


def run_audit(shop: Shop) -> Report:
    """Return the audit's report, with everything overdue at once."""
    with shop.app.app_context():
        return audit(shop.gateways.current.statement(), overdue=-1.0)
