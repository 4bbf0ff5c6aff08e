"""Run recovery and the audit in a test, usually after a fault."""

from app.charges import audit, recovery
from app.charges.report import Report
from tests.factories import SHOP_ID
from tests.shops import Shop

PASSES = 20
"""A charge or refund that is still unsettled after this number of passes counts as lost."""

WINDOW = 3600.0
"""Seconds that a shopper has to confirm a payment at the bank."""

MONEY_IN_BOOKS = 3
"""The invariant that money which the bank moved for us is in the books."""


def make_all_due(shop: Shop) -> None:
    """Let every lease and pause run out, so that recovery may ask about everything that is open."""
    for table in ("charge", "refund"):
        shop.execute(f"UPDATE {table} SET ask_at = created_at WHERE ended_at IS NULL")


def let_time_pass(shop: Shop, seconds: float) -> None:
    """Move everything that is stored about charges into the past."""
    for column in ("created_at", "ask_at", "hold_until"):
        moved = f"strftime('%Y-%m-%d %H:%M:%f', {column}, '-{seconds} seconds') || '000'"
        if shop.database_url.startswith("postgresql"):
            moved = f"{column} - interval '{seconds} s'"
        shop.execute(f"UPDATE charge SET {column} = {moved}")


def one_pass(shop: Shop) -> int:
    """Make one pass of recovery over the charges that are due now. Return the number of rows processed."""
    with shop.app.app_context():
        return recovery.run_charges(shop.gateways, shop.settings().gateway_deadline, WINDOW)


def recover(shop: Shop, window: float = WINDOW) -> int:
    """Make one pass of recovery over everything that is open. Return the number of rows processed."""
    make_all_due(shop)
    with shop.app.app_context():
        return recovery.run(shop.gateways, shop.settings().gateway_deadline, window)


def run_audit(shop: Shop) -> Report:
    """Return the audit's report, made from the statement that the shop's own gateway reads."""
    with shop.app.app_context():
        return audit.audit(shop.gateways.current.statement(), overdue=audit.GRACE, shop_id=SHOP_ID)


def recover_and_audit(shop: Shop, *, waiting: int | None = 0) -> Report:
    """Recover until nothing is unsettled, then assert that every invariant holds. Return the audit's report.

    `waiting` is the number of charges that must still wait for their shopper; None allows any number.
    """
    for _ in range(PASSES):
        if not count_unsettled(shop):
            break
        recover(shop)
    report = run_audit(shop)
    assert not report.broken, report.broken
    assert len(report.open) == (shop.charges()["requires_action"] if waiting is None else waiting), report.open
    return report


def is_listed(report: Report, key: str) -> bool:
    """Return whether the audit lists money that the bank moved under this key, which is not in the books."""
    return any(key in line for line in (*report.foreign, *report.broken.get(MONEY_IN_BOOKS, [])))


def count_unsettled(shop: Shop) -> int:
    """Return the number of charges and refunds whose outcome is not known and does not depend on the shopper."""
    query = "SELECT count(*) FROM {} WHERE status IN ('processing', 'in_doubt')"
    return sum(int(shop.value(query.format(table))) for table in ("charge", "refund"))
