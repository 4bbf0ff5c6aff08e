"""Every statement on the `charge` table that the protocol uses. Each is built once, because building costs more
than running (see docs/decisions/statements-built-once.md).
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnClause, bindparam, case, func, literal, literal_column, or_, select, update
from sqlalchemy.engine import Connection

from app.charges.models import ARRIVALS_COUNTED, Charge, StatusType
from app.charges.states import LIVE, PENDING, Status
from app.charges.tokens import Token
from app.database import InsertOnce, Unreachable, from_now, table
from app.gateways.base import Answer, Payment
from app.orders.models import Order
from app.unindexed import unindexed

RECOVERY_MARGIN = 5.0
"""Seconds beyond the gateway's deadline before recovery takes over a charge or refund that nobody finished.

A request that is slower than this does no harm: recovery fences the key, and the gateway refuses the late request.
"""

charges = table(Charge)


class RowLost(Unreachable):
    """The row that this process read is not there any more: the database went back to an earlier moment.

    A backup was restored, or a standby that lagged behind has taken over. Another row may have its id by now.
    """


class ChargeSnapshot(NamedTuple):
    """A charge as this process read it. Writes demand that its status is still the same."""

    id: int
    key: UUID
    receipt_id: str
    order_id: int
    buyer_id: UUID
    status: Status
    amount: int
    currency: str
    gateway: str
    account: str
    gateway_reference: str | None
    gateway_request: dict[str, object] | None
    action_url: str | None
    receipt_url: str
    arrivals: int
    other_arrivals: int
    request_id: str | None = None

    @property
    def payment(self) -> Payment:
        """The charge as the gateway sees it."""
        return Payment(
            str(self.key), self.amount, self.currency, self.receipt_url, self.gateway_reference, self.gateway_request
        )


COLUMNS = [charges.c[name] for name in ChargeSnapshot._fields]
STATUS = bindparam("to_status", type_=StatusType)


def constants(statuses: AbstractSet[Status]) -> list[ColumnClause[str]]:
    """Constants for IN. The planner can match a partial index only with constants, not with parameters."""
    return [literal_column(f"'{status}'") for status in sorted(statuses)]


orders = table(Order)

CLAIMED = (
    "key", "receipt_id", "status", "amount", "currency",
    "email", "name", "last4", "receipt_url", "gateway", "account", "gateway_request",
    "request_id", "network",
)  # fmt: skip

THE_ORDER = (orders.c.random_id == bindparam("order_random_id"), orders.c.buyer_id == bindparam("buyer_id"))

CLAIM = InsertOnce(
    charges,
    {name: bindparam(name, type_=charges.c[name].type) for name in CLAIMED}
    | {"order_id": orders.c.id, "buyer_id": orders.c.buyer_id}
    | {"arrivals": literal(1), "other_arrivals": literal(0), "refunded": literal(0), "times_asked": literal(0)}
    | {"created_at": from_now(0), "ask_at": from_now(bindparam("unattended"))}
    | {"hold_until": from_now(bindparam("hold"))},
    where=THE_ORDER,
    returning=COLUMNS,
)
"""INSERT … SELECT FROM orders: it inserts nothing if there is no such order of this buyer."""

BY_ID = select(*COLUMNS).where(charges.c.id == bindparam("charge_id"))

BY_KEY = select(*COLUMNS).where(charges.c.key == bindparam("key"))

LIVE_OF_ORDER = select(orders.c.id).where(*THE_ORDER).scalar_subquery()
BY_KEY_OR_ORDER = select(*COLUMNS).where(
    or_(
        charges.c.key == bindparam("key"),
        (charges.c.order_id == LIVE_OF_ORDER) & charges.c.status.in_(constants(LIVE)),
    )
)
# FOR NO KEY UPDATE (`key_share`): the foreign keys of events and refunds lock their charge FOR KEY SHARE, and two
# transactions that hold that lock and then ask for FOR UPDATE would deadlock.
LOCK_BY_KEY_OR_ORDER = BY_KEY_OR_ORDER.with_for_update(of=charges, key_share=True)
LOCK_BY_ID = BY_ID.with_for_update(key_share=True)

BY_RECEIPT = select(*COLUMNS).where(charges.c.receipt_id == bindparam("receipt_id"))

NEWEST_ORDER = (
    select(Order.id).where(Order.buyer_id == bindparam("buyer_id")).order_by(Order.id.desc()).limit(1).scalar_subquery()
)
LIVE_OF_BUYER = select(*COLUMNS).where(charges.c.order_id == NEWEST_ORDER, charges.c.status.in_(constants(LIVE)))


# The key as well as the id, because a database that went back gives the same ids again.
AS_READ = (
    charges.c.id == bindparam("charge_id"),
    charges.c.key == bindparam("seen_key"),
    unindexed(charges.c.status) == bindparam("seen"),
)

HOLD_ENDS_FIRST = charges.c.hold_until.between(from_now(0), from_now(bindparam("ask_in")))
ASK_AT = case((HOLD_ENDS_FIRST, charges.c.hold_until), else_=from_now(bindparam("ask_in")))
"""Recovery asks once when the hold ends, however rarely it asks: others may need the goods then (see `holds`)."""

COMPARE_AND_SET = (
    update(charges)
    .where(*AS_READ)
    .values(
        status=STATUS,
        gateway_reference=func.coalesce(bindparam("to_reference"), charges.c.gateway_reference),
        reason=bindparam("to_reason"),
        action_url=bindparam("to_action_url"),
        note=bindparam("to_note"),
        attention=None,
        gateway_message=func.coalesce(bindparam("to_message"), charges.c.gateway_message),
        gateway_request_id=func.coalesce(bindparam("to_request_id"), charges.c.gateway_request_id),
        ended_at=case((STATUS.in_(constants(PENDING)), None), else_=from_now(0)),
        network=case((STATUS.in_(constants(PENDING)), charges.c.network), else_=None),
        ask_at=ASK_AT,
    )
)

POSTPONE = (
    update(charges)
    .where(*AS_READ)
    .values(
        status=STATUS, note=bindparam("to_note"), asked_at=from_now(0), ask_at=ASK_AT,
        attention=bindparam("to_attention"),
    )
)  # fmt: skip

SAME_FORM_ARRIVED = (
    update(charges)
    .where(charges.c.id == bindparam("charge_id"), charges.c.arrivals < ARRIVALS_COUNTED)
    .values(arrivals=charges.c.arrivals + 1)
)
OTHER_FORM_ARRIVED = (
    update(charges)
    .where(charges.c.id == bindparam("charge_id"), charges.c.other_arrivals < ARRIVALS_COUNTED)
    .values(other_arrivals=charges.c.other_arrivals + 1)
)


def insert(
    connection: Connection, unattended: float, hold: float | None = None, **columns: object
) -> ChargeSnapshot | None:
    """Claim: return the new charge, or None if another charge has the same key or holds the same order.

    None as well if the order does not exist or is not this buyer's. `unattended` is the number of seconds after which
    recovery may take the charge over, and `hold` those for which it holds its goods while it is unconfirmed.
    """
    optional = {"hold": hold, "network": None, "request_id": None}
    row = CLAIM.execute(connection, {"unattended": unattended, **optional, **columns}).first()
    return snapshot(row) if row else None


def find(connection: Connection, token: Token, *, lock: bool = False) -> ChargeSnapshot | None:
    """Return the charge with the token's key; failing that, the live charge of the token's order and buyer.

    With `lock`, the transaction locks the row, so that its COMMIT waits for a synchronous standby too.
    """
    values = {"key": token.key, "order_random_id": token.order_random_id, "buyer_id": token.buyer_id}
    found = map(snapshot, connection.execute(LOCK_BY_KEY_OR_ORDER if lock else BY_KEY_OR_ORDER, values))
    # There are two if the key's own charge was declined and another form is paying the order now.
    return max(found, key=lambda charge: charge.key == token.key, default=None)


def of_key(connection: Connection, key: UUID) -> ChargeSnapshot | None:
    """Return the charge with this key, or None."""
    row = connection.execute(BY_KEY, {"key": key}).first()
    return snapshot(row) if row else None


def get(connection: Connection, charge_id: int) -> ChargeSnapshot:
    """Return the charge with this id."""
    return snapshot(connection.execute(BY_ID, {"charge_id": charge_id}).one())


def read_again(connection: Connection, charge: ChargeSnapshot, *, lock: bool = True) -> ChargeSnapshot:
    """Return the charge as it is now, and lock its row. Raises RowLost."""
    row = connection.execute(LOCK_BY_ID if lock else BY_ID, {"charge_id": charge.id}).first()
    if row is None or row.key != charge.key:
        raise RowLost("the charge is not in the database any more")
    return snapshot(row)


def of_receipt(connection: Connection, receipt_id: str) -> ChargeSnapshot | None:
    """Return the charge behind a receipt, or None."""
    row = connection.execute(BY_RECEIPT, {"receipt_id": receipt_id}).first()
    return snapshot(row) if row else None


def live_of_buyer(connection: Connection, buyer_id: UUID) -> ChargeSnapshot | None:
    """Return the live charge of the buyer's newest order, or None."""
    row = connection.execute(LIVE_OF_BUYER, {"buyer_id": buyer_id}).first()
    return snapshot(row) if row else None


def move(connection: Connection, charge: ChargeSnapshot, to: Status, answer: Answer | None = None, *,
         note: str | None = None, ask_in: float = 0) -> bool:  # fmt: skip
    """Compare-and-set: write `to` if the charge still has the status that we read. Return False if it has not."""
    values = {
        "charge_id": charge.id, "seen_key": charge.key, "seen": charge.status,
        "to_status": to, "to_note": note, "ask_in": ask_in,
        "to_reference": answer and answer.gateway_reference,
        "to_reason": answer and answer.reason,
        "to_action_url": answer and answer.action_url,
        "to_message": answer and answer.message and answer.message[:500],
        "to_request_id": answer and answer.request_id and answer.request_id[:100],
    }  # fmt: skip
    return connection.execute(COMPARE_AND_SET, values).rowcount == 1


def postpone(
    connection: Connection, charge: ChargeSnapshot, to: Status, note: str, ask_in: float, attention: str | None = None
) -> bool:
    """Compare-and-set: a worker has asked, and this is why the outcome is still unknown. Ask again in `ask_in` seconds.

    `attention` says why a person must look at the charge.
    """
    values = {
        "charge_id": charge.id, "seen_key": charge.key, "seen": charge.status,
        "to_status": to, "to_note": note[:200], "ask_in": ask_in,
        "to_attention": attention and attention[:200],
    }  # fmt: skip
    return connection.execute(POSTPONE, values).rowcount == 1


def count_arrival(connection: Connection, charge_id: int, *, same_form: bool) -> None:
    """Count one more form that arrived for this charge. Above ARRIVALS_COUNTED nothing is written."""
    connection.execute(SAME_FORM_ARRIVED if same_form else OTHER_FORM_ARRIVED, {"charge_id": charge_id})


def snapshot(row: Sequence[Any]) -> ChargeSnapshot:
    """Return a row of COLUMNS as a snapshot."""
    return ChargeSnapshot._make(row)
