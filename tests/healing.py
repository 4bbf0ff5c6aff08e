"""What follows each fault: time passes, recovery looks after what is open, and the audit reads the bank's statement."""

from app.charges import audit, recovery
from app.charges.audit import Report
from tests.shops import Shop

PASSES = 20
"""Passes of recovery after which whatever is still open counts as lost."""

WINDOW = 3600.0


def time_passes(shop: Shop) -> None:
    """Leases and pauses run out: all that is open may be asked about now."""
    for table in ("charge", "refund"):
        shop.execute(f"UPDATE {table} SET ask_at = created_at WHERE ended_at IS NULL")


def recover(shop: Shop, window: float = WINDOW) -> int:
    """One pass over everything that is open, whether due or not; how many rows were looked after."""
    time_passes(shop)
    with shop.app.app_context():
        return recovery.run(shop.gateways, shop.settings().gateway_deadline, window)


def audited(shop: Shop) -> Report:
    """The audit against the statement that the shop's own gateway reads."""
    with shop.app.app_context():
        return audit.audit(shop.gateways.current.statement(), overdue=audit.GRACE)


def heal(shop: Shop, *, waiting: int | None = 0) -> Report:
    """Recover until nothing is open but what waits for a shopper (None: any number); every invariant holds."""
    for _ in range(PASSES):
        if not unsettled(shop):
            break
        recover(shop)
    report = audited(shop)
    assert not report.broken, report.broken
    assert len(report.open) == (shop.charges()["requires_action"] if waiting is None else waiting), report.open
    return report


def unsettled(shop: Shop) -> int:
    """How many charges and refunds nobody knows the end of."""
    doubt = "SELECT count(*) FROM {} WHERE status IN ('processing', 'in_doubt')"
    return sum(int(shop.value(doubt.format(table))) for table in ("charge", "refund"))
