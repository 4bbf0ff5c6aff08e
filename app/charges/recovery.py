"""Recovery: finds out what became of charges and refunds in doubt. It never guesses. Any number of workers may run.

A worker takes a lease on one row (by the database's clock), commits, asks the gateway with no transaction open, and
records by compare-and-set. A lease that runs out while its worker still asks does no harm: the question carries the
same key.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from threading import Event, Thread
from typing import NamedTuple

import structlog
from sqlalchemy import bindparam, update
from sqlalchemy.engine import Connection

from app.charges import evidence, holds, protocol, refund_rows, refunds, rows
from app.charges.models import Charge, Refund
from app.charges.refund_rows import RefundSnapshot
from app.charges.rows import ChargeSnapshot
from app.charges.states import IN_DOUBT, PENDING, PROCESSING, REFUND_PENDING, REQUIRES_ACTION, Status
from app.database import Unreachable, confirmed, from_now, table, transaction
from app.gateways.base import (
    Answer,
    Contradiction,
    EventSender,
    Gateway,
    Gateways,
    HostedGateway,
    NotSent,
    Outcome,
    Unknown,
)
from app.leases import LONGEST, RARELY, back_off, longest_due

LOOK = 3.0
"""Seconds that a shopper waits for a receipt at most while the gateway is asked about it."""

PAUSE = 1.0
"""Seconds between two passes."""

LONGEST_PAUSE = 10.0
"""Seconds between two tries at most while the database is away or has no free connection."""

MOST = 100
"""Rows per pass at most, so that a worker is soon done when it is told to stop."""

CONTRADICTED = "the gateway took another amount under this key: refund it there, then: reconcile --look "
TOO_EARLY = "the gateway has no payment, but it is too early to know that there will be none: is a clock wrong?"
NOT_CONFIGURED = "the gateway and account of the charge are not configured"

log = structlog.get_logger()
charges, open_refunds = table(Charge), table(Refund)


class Due(NamedTuple):
    """A charge under our lease. `expired`: the time to confirm is over. `wanted`: others need its goods (`holds`)."""

    charge: ChargeSnapshot
    times_asked: int
    expired: bool
    wanted: bool = False


LEASE_CHARGE = (
    update(charges)
    .where(charges.c.id == longest_due(charges.c.id, charges.c.ask_at, charges.c.status.in_(sorted(PENDING))))
    .values(ask_at=from_now(bindparam("lease")), times_asked=charges.c.times_asked + 1)
    .returning(
        *rows.COLUMNS, charges.c.times_asked, holds.IS_WANTED.label("wanted"),
        (charges.c.created_at < from_now(bindparam("window"))).label("expired"),
    )
)  # fmt: skip

LEASE_REFUND = (
    update(open_refunds)
    .where(
        open_refunds.c.id
        == longest_due(open_refunds.c.id, open_refunds.c.ask_at, open_refunds.c.status.in_(sorted(REFUND_PENDING)))
    )
    .values(ask_at=from_now(bindparam("lease")), times_asked=open_refunds.c.times_asked + 1)
    .returning(*refund_rows.COLUMNS)
)


def run(gateways: Gateways, seconds: float, window: float, stopped: Callable[[], bool] = lambda: False) -> int:
    """Make one pass over the charges and one over the refunds that are due. Return the number of rows processed."""
    return run_charges(gateways, seconds, window, stopped) + run_refunds(gateways, seconds, stopped)


def run_charges(gateways: Gateways, seconds: float, window: float, stopped: Callable[[], bool] = lambda: False) -> int:
    """Make one pass over at most MOST charges that are due. Return the number of rows that were processed.

    `seconds` is the gateway's deadline, `window` the seconds that a shopper has to confirm at the gateway.
    """
    return _each(lambda: _recover_charge(gateways, seconds, window), stopped)


def run_refunds(gateways: Gateways, seconds: float, stopped: Callable[[], bool] = lambda: False) -> int:
    """Make one pass over at most MOST refunds that are due. Return the number of rows that were processed."""
    return _each(lambda: _recover_refund(gateways, seconds), stopped)


def _each(one: Callable[[], bool], stopped: Callable[[], bool]) -> int:
    done = 0
    while done < MOST and not stopped():
        with evidence.kept("recovery"):
            if not one():
                break
        done += 1
    return done


def _recover_charge(gateways: Gateways, seconds: float, window: float) -> bool:
    due = confirmed(lambda tx: lease(tx, seconds, window))
    if due is None:
        return False
    with evidence.about(due.charge):
        _settle_due_charge(due, gateways, seconds)
    return True


def _settle_due_charge(due: Due, gateways: Gateways, seconds: float) -> None:
    gateway = gateways.of(due.charge.gateway, due.charge.account)
    if gateway is None:
        postpone(due, NOT_CONFIGURED, attention=NOT_CONFIGURED)
        return
    try:
        settle(due, gateway, seconds)
    except Unreachable:
        raise
    except Exception as error:
        # A row that makes our own code fail must not stop the others, nor fill the log with the same traceback.
        reason = f"our own code failed: {type(error).__name__}"
        log.error("charge_recovery_failed", receipt=due.charge.receipt_id, reason=reason, exc_info=due.times_asked == 1)
        postpone(due, reason, attention=reason)


def lease(connection: Connection, seconds: float, window: float) -> Due | None:
    """Take a lease on the charge that has been due the longest. Return None if nothing is due."""
    row = connection.execute(LEASE_CHARGE, {"lease": _lease_seconds(seconds), "window": -window}).first()
    return Due(rows.snapshot(row[:-3]), row.times_asked, bool(row.expired), bool(row.wanted)) if row else None


def _lease_seconds(seconds: float) -> float:
    """A lease is longer than the two questions that may be asked under it."""
    return 2 * seconds + rows.RECOVERY_MARGIN


def settle(due: Due, gateway: Gateway, seconds: float) -> Status:
    """Find out what became of the charge and record it. If that fails, postpone the charge and note the reason."""
    try:
        answer = find_out(due, gateway, seconds)
    except Contradiction as contradiction:
        return postpone(due, str(contradiction), attention=CONTRADICTED + due.charge.receipt_id, ask_in=RARELY)
    except (NotSent, Unknown) as doubt:
        return postpone(due, str(doubt))
    if answer.outcome is Outcome.REQUIRES_ACTION and due.charge.status is REQUIRES_ACTION:
        # An event will say what the shopper did. The questions are for events that are lost.
        rarely = isinstance(gateway, EventSender) and gateway.sends_events
        return postpone(due, "the shopper has not confirmed yet", ask_in=LONGEST if rarely else None)
    return protocol.record(due.charge, answer).status


def find_out(due: Due, gateway: Gateway, seconds: float) -> Answer:
    """Return the outcome that the gateway knows. Fence a key that it has never seen, or that was not confirmed in time.

    Only a key that can never take money makes an order safe to pay again. A gateway with a page of its own knows that
    from the time, by this host's clock. So the database's clock must say that it is late, too. Raises Contradiction if
    the gateway took another amount under the key.
    """
    try:
        answer = gateway.lookup(due.charge.payment, seconds)
    except Contradiction:
        return cancel(due.charge, gateway, seconds, "contradicted")
    if answer is None:
        if isinstance(gateway, HostedGateway) and not due.expired:
            raise Unknown(TOO_EARLY)
        return cancel(due.charge, gateway, seconds, "fenced")
    if answer.outcome is Outcome.REQUIRES_ACTION and (due.expired or due.wanted):
        return cancel(due.charge, gateway, seconds, "expired" if due.expired else "released")
    return answer


def cancel(charge: ChargeSnapshot, gateway: Gateway, seconds: float, reason: str) -> Answer:
    """Fence the key at the gateway. Return the outcome that won, with `reason` if it is CANCELED."""
    answer = gateway.cancel(charge.payment, seconds)
    return replace(answer, reason=reason) if answer.outcome is Outcome.CANCELED else answer


def postpone(due: Due, reason: str, attention: str | None = None, ask_in: float | None = None) -> Status:
    """Keep the reason for the merchant to see. Ask again in `ask_in` seconds, or after ever longer times.

    `attention` says why a person must look at the charge.
    """
    charge = due.charge
    to = IN_DOUBT if charge.status is PROCESSING else charge.status
    with transaction() as tx:
        rows.postpone(tx, charge, to, reason, ask_in or back_off(due.times_asked), attention)
    log.warning("charge_postponed", receipt=charge.receipt_id, reason=reason, times_asked=due.times_asked)
    return to


def look(charge: ChargeSnapshot, gateways: Gateways) -> bool:
    """Ask briefly what became of a charge, because its shopper is back from the gateway's page or reads the receipt.

    Return False if the gateway gave no answer.
    """
    gateway = gateways.of(charge.gateway, charge.account)
    if gateway is None:
        return False
    try:
        answer = gateway.lookup(charge.payment, LOOK)
    except (NotSent, Unknown):
        return False  # The receipt shows what is known, and recovery will ask again.
    if answer is not None and answer.outcome is not Outcome.REQUIRES_ACTION:
        protocol.record(charge, answer)
    return True


def cancel_for_shopper(charge: ChargeSnapshot, gateways: Gateways, seconds: float) -> bool:
    """Cancel a charge that waits for its shopper: at the gateway first, then here.

    Return False if it is not known whether that succeeded. The key may be fenced at the gateway all the same.
    """
    gateway = gateways.of(charge.gateway, charge.account)
    if gateway is None:
        return False
    try:
        protocol.record(charge, cancel(charge, gateway, seconds, "given_up"))
    except (NotSent, Unknown, Unreachable):
        return False
    return True


def _recover_refund(gateways: Gateways, seconds: float) -> bool:
    leased = confirmed(lambda tx: _lease_refund(tx, seconds))
    if leased is None:
        return False
    with evidence.about(leased[1]):
        _settle_due_refund(*leased, gateways, seconds)
    return True


def _settle_due_refund(refund: RefundSnapshot, charge: ChargeSnapshot, gateways: Gateways, seconds: float) -> None:
    gateway = gateways.of(charge.gateway, charge.account)
    if gateway is None:
        refunds.record_doubt(refund, Unknown(NOT_CONFIGURED), alarm=True)
        return
    try:
        refunds.settle(refund, charge, gateway, seconds)
    except Unreachable:
        raise
    except Exception as error:
        reason = f"our own code failed: {type(error).__name__}"
        log.error("refund_recovery_failed", refund_id=refund.id, reason=reason, exc_info=refund.times_asked == 1)
        refunds.record_doubt(refund, Unknown(reason), alarm=True)


def _lease_refund(connection: Connection, seconds: float) -> tuple[RefundSnapshot, ChargeSnapshot] | None:
    row = connection.execute(LEASE_REFUND, {"lease": _lease_seconds(seconds)}).first()
    return (refund_rows.snapshot(row), rows.get(connection, row.charge_id)) if row else None


def watch(passes: Mapping[str, Callable[[], int]], stop: Event) -> None:
    """Repeat each pass in a loop and thread of its own until stopped, so that no kind of work can starve another.

    The names of `passes` appear in the log. Return when all loops have ended.
    """
    loops = [Thread(target=_loop, args=(name, one_pass, stop), name=name) for name, one_pass in passes.items()]
    for loop in loops:
        loop.start()
    for loop in loops:
        loop.join()


def _loop(name: str, one_pass: Callable[[], int], stop: Event) -> None:
    """Repeat one pass, also while the database is away: then ever less often."""
    failures = 0
    while not stop.is_set():
        try:
            one_pass()
            failures = 0
        except Unreachable as error:
            failures += 1
            log.error("recovery_waiting", loop=name, reason=str(error))
        except Exception:
            log.exception("recovery_failed", loop=name)
        stop.wait(back_off(failures, LONGEST_PAUSE) if failures else PAUSE)
