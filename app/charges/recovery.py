"""Recovery: what is in doubt is found out, never guessed. Any number of workers may run this at once.

A worker takes a lease on one row (database clock), commits, asks the gateway with no transaction open, and records
by compare-and-set. A lease that runs out while somebody still asks does no harm: every question carries the key.
"""

from collections.abc import Callable
from dataclasses import replace
from threading import Event
from typing import NamedTuple, Protocol

import structlog
from sqlalchemy import bindparam, update
from sqlalchemy.engine import Connection

from app.charges import protocol, refunds, rows
from app.charges.models import Charge, Refund
from app.charges.rows import Seen
from app.charges.states import IN_DOUBT, PENDING, PROCESSING, REQUIRES_ACTION, Status
from app.database import Unreachable, back_off, from_now, longest_due, table, transaction
from app.gateways.base import Answer, Gateway, NotSent, Outcome, Unknown

LOOK = 3.0
"""Seconds at most that a shopper waits for their receipt while the gateway is asked about it."""

PAUSE = 1.0
"""Seconds between two passes."""

log = structlog.get_logger()
charges, owed_refunds = table(Charge), table(Refund)


class Known(Protocol):
    """Where to find the gateway that a charge was made at."""

    def of(self, name: str, account: str) -> Gateway | None: ...


class Due(NamedTuple):
    """A charge under our lease: how often it was asked about, and whether the shopper's time to confirm is over."""

    charge: Seen
    asked: int
    expired: bool


LEASE = (
    update(charges)
    .where(charges.c.id == longest_due(charges.c.id, charges.c.ask_at, charges.c.status.in_(sorted(PENDING))))
    .values(ask_at=from_now(bindparam("lease")), asked=charges.c.asked + 1)
    .returning(
        *rows.COLUMNS, charges.c.asked, (charges.c.created_at < from_now(bindparam("window"))).label("expired")
    )
)

LEASE_REFUND = (
    update(owed_refunds)
    .where(
        owed_refunds.c.id
        == longest_due(owed_refunds.c.id, owed_refunds.c.ask_at, owed_refunds.c.status.in_([IN_DOUBT, PROCESSING]))
    )
    .values(ask_at=from_now(bindparam("lease")), asked=owed_refunds.c.asked + 1)
    .returning(*refunds.COLUMNS)
)


def run(gateways: Known, seconds: float, window: float, stopped: Callable[[], bool] = lambda: False) -> int:
    """One pass: everything that is due, one after the other. Answers how many rows were looked after.

    `seconds` is the gateway's deadline, `window` the seconds that a shopper has to confirm at the bank.
    """
    return _each(lambda: _charge(gateways, seconds, window), stopped) + _each(
        lambda: _refund(gateways, seconds), stopped
    )


def _each(one: Callable[[], bool], stopped: Callable[[], bool]) -> int:
    done = 0
    while not stopped() and one():
        done += 1
    return done


def _charge(gateways: Known, seconds: float, window: float) -> bool:
    with transaction() as tx:
        due = lease(tx, seconds, window)
    if due is None:
        return False
    gateway = gateways.of(due.charge.gateway, due.charge.account)
    if gateway is None:
        postpone(due, "no settings for the gateway and account that were asked")
    else:
        settle(due, gateway, seconds)
    return True


def lease(connection: Connection, seconds: float, window: float) -> Due | None:
    """The charge that has waited longest is ours for as long as two questions may take; None: nothing is due."""
    row = connection.execute(LEASE, {"lease": _lasting(seconds), "window": -window}).first()
    return Due(rows.seen(row[:-2]), row.asked, bool(row.expired)) if row else None


def _lasting(seconds: float) -> float:
    """A lease outlasts the two questions that may be asked under it."""
    return 2 * seconds + protocol.MARGIN


def settle(due: Due, gateway: Gateway, seconds: float) -> Status:
    """Find out and record; what can't be found out now is put off, with the reason."""
    try:
        answer = find_out(due, gateway, seconds)
    except (NotSent, Unknown) as doubt:
        return postpone(due, str(doubt))
    if answer.outcome is Outcome.REQUIRES_ACTION and due.charge.status is REQUIRES_ACTION:
        return postpone(due, "the shopper has not confirmed yet")
    return protocol.record(due.charge, answer).status


def find_out(due: Due, gateway: Gateway, seconds: float) -> Answer:
    """How it ended, if the gateway knows. What it has never heard of, or nobody confirmed in time, is fenced there:
    only a key that can never take money any more makes an order safe to pay again."""
    answer = gateway.lookup(due.charge.payment, seconds)
    if answer is None:
        return cancel(due.charge, gateway, seconds, "fenced")
    if answer.outcome is Outcome.REQUIRES_ACTION and due.expired:
        return cancel(due.charge, gateway, seconds, "expired")
    return answer


def cancel(charge: Seen, gateway: Gateway, seconds: float, reason: str) -> Answer:
    """Fence the key at the gateway. Whichever outcome won is the answer; `reason` is noted if it is ours."""
    answer = gateway.cancel(charge.payment, seconds)
    return replace(answer, reason=reason) if answer.outcome is Outcome.CANCELED else answer


def postpone(due: Due, reason: str) -> Status:
    """Nobody knows yet: the reason is kept where the merchant sees it, and the next question waits longer."""
    charge = due.charge
    to = IN_DOUBT if charge.status is PROCESSING else charge.status
    with transaction() as tx:
        rows.postpone(tx, charge, to, reason, back_off(due.asked))
    log.warning("charge_" + to, receipt=str(charge.receipt), reason=reason, asked=due.asked)
    return to


def look(charge: Seen, gateways: Known) -> None:
    """The shopper is back from the gateway's page, or reads their receipt: ask what became of it, briefly."""
    gateway = gateways.of(charge.gateway, charge.account)
    if gateway is None:
        return
    try:
        answer = gateway.lookup(charge.payment, LOOK)
    except (NotSent, Unknown):
        return  # The receipt says what is known; recovery asks on.
    if answer is not None and answer.outcome is not Outcome.REQUIRES_ACTION:
        protocol.record(charge, answer)


def give_up(charge: Seen, gateways: Known, seconds: float) -> bool:
    """The shopper won't confirm: cancelled at the gateway first. False: that could not be asked, nothing changed."""
    gateway = gateways.of(charge.gateway, charge.account)
    try:
        if gateway is not None:
            protocol.record(charge, cancel(charge, gateway, seconds, "given_up"))
        return gateway is not None
    except (NotSent, Unknown, Unreachable):
        return False


def _refund(gateways: Known, seconds: float) -> bool:
    with transaction() as tx:
        row = tx.execute(LEASE_REFUND, {"lease": _lasting(seconds)}).first()
        charge = rows.get(tx, row.charge_id) if row else None
    if row is None or charge is None:
        return False
    owed = refunds.seen(row)
    gateway = gateways.of(charge.gateway, charge.account)
    if gateway is None:
        refunds.record_doubt(owed, "no settings for the gateway and account of the charge")
    else:
        refunds.settle(owed, charge, gateway, seconds)
    return True


def watch(one_pass: Callable[[], int], stop: Event) -> None:
    """Pass after pass until stopped, also through times when the storage is away.

    A row that makes our own code fail must not keep the others waiting: its lease has put it behind them.
    """
    while not stop.is_set():
        try:
            one_pass()
        except Unreachable as error:
            log.error("recovery_waits", reason=str(error))
        except Exception:
            log.exception("recovery_failed")
        stop.wait(PAUSE)
