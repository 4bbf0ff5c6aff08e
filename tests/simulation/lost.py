"""What may be missing or untrue after the database lost confirmed transactions, and that the audit lists it.

Two things can't be prevented then. A payment can be missing in the books. And if its form is sent again and the gateway
refuses that connection, the books say that nothing was sent, which is true only of the second request.
"""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from app.charges import reconcile
from app.charges.audit import Report
from lab.stage.scenario import Loses, Scenario
from lab.stage.steps import Broken
from tests.recovery import MONEY_IN_BOOKS, is_listed

if TYPE_CHECKING:
    from lab.stage.stage import Stage
    from lab.stage.storage import Storage
    from tests.simulation.invariants import Records

NOT_REVERSED = 4
"""The invariant that a charge without money has no bank entry."""

KEYS = "SELECT upper(key) FROM charge UNION ALL SELECT upper(key) FROM refund"

NOT_SENT = """
SELECT id, key FROM charge
WHERE reason = 'not_sent' AND NOT EXISTS (SELECT 1 FROM refund WHERE charge_id = charge.id AND stray)
"""


def is_possible(scenario: Scenario, now: "Records | Storage") -> bool:
    """Return whether transactions whose COMMIT was confirmed can be missing now."""
    return scenario.loses is Loses.CONFIRMED and now.times_gone_back > 0


def check_listed(stage: "Stage", report: Report) -> None:
    """Check that the audit lists all money that moved at the bank under keys that the books lost. Raises Broken.

    These findings, which are true, are removed from the report.
    """
    if not is_possible(stage.scenario, stage.storage):
        return
    known = {key for (key,) in stage.storage.rows(KEYS)}
    missing = [key for key in {entry.key for entry in stage.bank.statement()} if UUID(key).hex.upper() not in known]
    for key in missing:
        if not is_listed(report, key):
            raise Broken(f"money moved under {key}, which the books lost, and the audit does not list it: {report}")
    report.foreign = [line for line in report.foreign if not any(key in line for key in missing)]
    lines = [line for line in report.broken.pop(MONEY_IN_BOOKS, []) if not any(key in line for key in missing)]
    report.broken |= {MONEY_IN_BOOKS: lines} if lines else {}
    _check_not_sent(stage, report)


def adopt(stage: "Stage") -> None:
    """Take over everything that the audit lists, as `reconcile --adopt` does. Money of the payments comes first."""
    known = {key for (key,) in stage.storage.rows(KEYS)}
    missing = {UUID(entry.key) for entry in stage.bank.statement() if UUID(entry.key).hex.upper() not in known}
    taken = stage.bank.taken()
    not_sent = {UUID(key) for _, key in stage.storage.rows(NOT_SENT) if taken[str(UUID(key))]}
    bank: Any = SimpleNamespace(name=stage.gateway.name, account=stage.gateway.account, statement=stage.bank.statement)
    for entry in reconcile.entries(bank, "", missing | not_sent):
        reconcile.adopt(entry, bank)


def _check_not_sent(stage: "Stage", report: Report) -> None:
    taken = stage.bank.taken()
    rows = stage.storage.rows(NOT_SENT)
    expected = {f"charge {id_} {UUID(key)}" for id_, key in rows if taken[str(UUID(key))]}
    if missing := expected - set(report.broken.get(NOT_REVERSED, [])):
        raise Broken(f"not listed by the audit: {missing}")
    if set(report.broken.get(NOT_REVERSED, [])) == expected:
        report.broken.pop(NOT_REVERSED, None)
