"""The program, broken on purpose: each of these must be caught by some schedule."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from sqlalchemy import bindparam, select, text, update
from sqlalchemy.engine import Connection

from app import database
from app.charges import holds, protocol, recovery, refund_rows, rows, same_order
from app.charges import refunds as refund_claims
from app.charges.models import RefundStatusType, StatusType
from app.database import RolledBack, Unreachable, from_now, transaction
from app.orders import basket, stock
from tests.isolation.actors import Broken
from tests.isolation.pairs import BY_NAME
from tests.isolation.schedules import SEEDED, Report, explore, explore_cuts
from tests.isolation.stage import Stage
from tests.isolation.waits import explore_probes, explore_waits

charges, refunds, lines, orders = rows.charges, refund_rows.refunds, stock.order_lines, basket.orders

ALWAYS = bindparam("seen", type_=StatusType).is_not(None)
ANY_STATUS = update(charges).where(
    charges.c.id == bindparam("charge_id"), charges.c.key == bindparam("seen_key"), ALWAYS
)
ANY_STATUS = ANY_STATUS.values(dict(rows.COMPARE_AND_SET._values))

ANY_REFUND_STATUS = (
    update(refunds)
    .where(
        refunds.c.id == bindparam("refund_id"),
        refunds.c.key == bindparam("seen_key"),
        bindparam("seen", type_=RefundStatusType).is_not(None),
    )
    .values(dict(refund_rows.COMPARE_AND_SET._values))
)

IN_BASKET_ORDER = (
    select(lines.c.product_id, lines.c.quantity).where(lines.c.order_id == bindparam("order_id")).order_by(lines.c.id)
)

FREEZE_ANY_STATE = (
    update(orders)
    .where(orders.c.id == bindparam("order_id"), orders.c.version == bindparam("shown"))
    .values(state=basket.PLACED)
)

PROMISE_ANY_AMOUNT = (
    update(charges)
    .where(charges.c.id == bindparam("charge_id"))
    .values(refunded=charges.c.amount + 0 * bindparam("more"))
)

# Both workers may take the same row: no lock, and no look whether it is still due.
LEASE_WITHOUT_LOCK = (
    update(charges)
    .where(
        charges.c.id
        == select(charges.c.id)
        .where(charges.c.ended_at.is_(None))
        .order_by(charges.c.ask_at)
        .limit(1)
        .scalar_subquery()
    )
    .values(ask_at=from_now(bindparam("lease")), times_asked=charges.c.times_asked + 1)
    .returning(
        *rows.COLUMNS,
        charges.c.times_asked,
        holds.IS_WANTED.label("wanted"),
        (charges.c.created_at < from_now(bindparam("window"))).label("expired"),
    )
)

# The foreign key of an event or a refund locks its charge FOR KEY SHARE, which FOR UPDATE waits for.
LOCK_TOO_MUCH = select(*rows.COLUMNS).where(charges.c.id == bindparam("charge_id")).with_for_update()

LIVE_INDEX = "uq_charge_one_live_per_order"


def _enter_only(connection: Connection, charge_id: int, fingerprint: str, *, again: bool) -> None:
    """Enter the charge as if the shopper had confirmed that it is another order."""
    connection.execute(same_order.LOCK["postgresql"], {"fingerprint": fingerprint})
    connection.execute(same_order.ENTER, {"fingerprint": fingerprint, "charge_id": charge_id})


HELD_BY_ONE = text("SELECT sum(quantity) FROM charge_line JOIN charge ON charge.id = charge_id WHERE network = 'one'")
_freeze = basket.freeze


def _check_and_freeze(connection: Connection, *claimed: Any) -> Any:
    """Check what the network holds before the products are locked."""
    if connection.execute(HELD_BY_ONE).scalar():
        raise holds.NetworkFull("", 0, alone=False)
    return _freeze(connection, *claimed)


def _no_check(connection: Connection, charge_id: int, network: str | None) -> None:
    """Do nothing."""


def _lost_means_rolled_back(work: Callable[[Connection], Any]) -> Any:
    """Take a COMMIT whose answer is lost for one that did not happen."""
    try:
        with transaction() as connection:
            return work(connection)
    except Unreachable as error:
        raise RolledBack("the commit failed") from error


def _a_refused_probe_means_rolled_back(work: Callable[[Connection], Any]) -> Any:
    """Take a statement of the probe that was refused for one of the first run."""
    try:
        with transaction() as connection:
            return work(connection)
    except RolledBack:
        raise
    except Unreachable:
        with transaction() as connection:
            return work(connection)


@dataclass(frozen=True)
class Mutant:
    """`pair` is where it shows; `says` is a part of what is then said. `without` is an index that is dropped.

    `explore` is how it is found, for example by cutting connections.
    """

    name: str
    pair: str
    says: str
    patches: tuple[tuple[object, str, Any], ...] = ()
    without: str | None = None
    explore: Callable[..., Report] = explore

    def caught(self, stage: Stage) -> str:
        """Return the schedule in which it shows, or "" if it survived."""
        with self._at_work(stage):
            try:
                self.explore(stage, BY_NAME[self.pair])
            except Broken as broken:
                return str(broken)
        return ""

    @contextmanager
    def _at_work(self, stage: Stage) -> Iterator[None]:
        with ExitStack() as stack:
            for where, name, stand_in in self.patches:
                stack.enter_context(patch.object(where, name, stand_in))
            if self.without:
                stack.enter_context(_dropped(stage, self.without))
            yield


@contextmanager
def _dropped(stage: Stage, index: str) -> Iterator[None]:
    definition = stage.sql("SELECT indexdef FROM pg_indexes WHERE indexname = %s", index)[0][0]
    stage.sql(f"DROP INDEX {index}")
    try:
        yield
    finally:
        stage.restore(SEEDED)
        stage.sql(definition)


MUTANTS = (
    Mutant("no index of live charges", "two_tabs", "OrderChanged", without=LIVE_INDEX),
    Mutant(
        "no index of live charges, and neither the order's state nor its fingerprint matters",
        "two_tabs", "an order has two live charges",
        ((basket, "FREEZE", FREEZE_ANY_STATE), (same_order, "guard", _enter_only)), LIVE_INDEX,
    ),
    Mutant("products locked in the order of the basket", "reverse_baskets", "deadlock",
           ((stock, "WANTED", IN_BASKET_ORDER),)),
    Mutant("a charge locked FOR UPDATE", "refund_events", "deadlock",
           ((rows, "LOCK_BY_ID", LOCK_TOO_MUCH),)),
    Mutant("a decline written whatever the status is", "decline_twice", "IntegrityError",
           ((rows, "COMPARE_AND_SET", ANY_STATUS),)),
    Mutant("a success written whatever the status is", "success_twice", "IntegrityError",
           ((rows, "COMPARE_AND_SET", ANY_STATUS),)),
    Mutant("an outcome written over another one", "success_and_decline", "IntegrityError",
           ((rows, "COMPARE_AND_SET", ANY_STATUS),)),
    Mutant("a refund written whatever its status is", "refund_and_recovery", "IntegrityError",
           ((refund_rows, "COMPARE_AND_SET", ANY_REFUND_STATUS),)),
    Mutant("the same order is never asked about", "same_fingerprint", "own succeeded | own succeeded",
           ((same_order, "guard", _enter_only),)),
    Mutant("a network's share is checked before the goods are reserved", "network_and_network",
           "own processing | own processing",
           ((holds, "check", _no_check), (basket, "freeze", _check_and_freeze))),
    Mutant("a refund that looks at no amount", "two_refunds", "what is refunded is not what is promised",
           ((refund_rows, "PROMISE", PROMISE_ANY_AMOUNT),)),
    Mutant("a lease without a lock", "two_workers", "ended as it must not: 1 | 1",
           ((recovery, "LEASE_CHARGE", LEASE_WITHOUT_LOCK),)),
    Mutant("a lost COMMIT taken for a rollback", "same_form", "refused by Busy, but there is a charge",
           ((protocol, "confirmed", _lost_means_rolled_back),), explore=explore_cuts),
    Mutant("a lock time-out inside a probe taken for a rollback", "same_form", "ended as it must not: Busy",
           ((protocol, "confirmed", _a_refused_probe_means_rolled_back),), explore=explore_probes),
    Mutant("the same for a refund", "two_refunds", "ended as it must not: RolledBack",
           ((refund_claims, "confirmed", _a_refused_probe_means_rolled_back),), explore=explore_probes),
    Mutant("a lock time-out taken for a lost connection", "same_form", "in_probe=False",
           ((database, "REFUSED", database.REFUSED - {"55P03"}),), explore=explore_waits),
    Mutant("a cancelled statement taken for a lost connection", "same_form", "in_probe=False",
           ((database, "REFUSED", database.REFUSED - {"57014"}),), explore=explore_waits),
)  # fmt: skip
"""In each of them, the database's own constraints and triggers stay as they are, but for the index that is named."""
