"""Every statement on the `refund` table that refunding uses, and the sums on `charge` that depend on refunds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, case, func, select, update
from sqlalchemy.engine import Connection

from app.charges.models import Charge, Refund, RefundStatusType
from app.charges.rows import ChargeSnapshot, RowLost
from app.charges.states import REFUND_PENDING, RefundStatus, Status
from app.database import InsertOnce, from_now, table
from app.gateways.base import KEYS_LAST, Answer
from app.leases import Stopwatch
from app.unindexed import unindexed

SEND_FOR = KEYS_LAST / 2
"""Seconds in which a refund may be sent, from the time when its first try is due. Half of KEYS_LAST, so that a request
that is held back for hours is still recognised as a copy."""

ARRIVES_WITHIN = 3600.0
"""Seconds after which a request that was sent can't arrive any more. Our own deadline closes its connection within
seconds; the rest is for proxies on the way."""

FRESH = 120.0
"""Seconds after the claim in which the process that claimed may send without looking first."""

charges, refunds = table(Charge), table(Refund)


@dataclass(frozen=True)
class RefundSnapshot:
    """A refund as this process read it. `amount` is in minor units. `since_read` measures how old the other fields are.

    The ages are by the database's clock. `fresh`: it was claimed a moment ago. `sendable`: it may be sent. `lapsed`:
    nothing that was sent for it can arrive any more. `recalled`: the merchant asked to withdraw it.
    """

    id: int
    charge_id: int
    key: UUID
    amount: int
    status: RefundStatus
    stray: bool
    gateway_reference: str | None
    times_asked: int
    fresh: bool
    sendable: bool
    lapsed: bool
    recalled: bool
    since_read: Stopwatch = field(default_factory=Stopwatch, compare=False)


STORED = ("id", "charge_id", "key", "amount", "status", "stray", "gateway_reference", "times_asked")
TIMES = [refunds.c.created_at, refunds.c.send_until, from_now(0).label("now")]
COLUMNS = [*(refunds.c[name] for name in STORED), *TIMES]

CLAIM = InsertOnce(
    refunds,
    {name: bindparam(name) for name in ("charge_id", "key", "amount", "stray", "attention")}
    | {
        "status": RefundStatus.PROCESSING,
        "times_asked": 0,
        "created_at": from_now(0),
        "ask_at": from_now(bindparam("ask_in")),
        "send_until": from_now(bindparam("send_for")),
    },
)
BY_KEY = select(*COLUMNS).where(refunds.c.key == bindparam("key"))
PROMISE = (
    update(charges)
    .where(
        charges.c.id == bindparam("charge_id"),
        charges.c.status == Status.SUCCEEDED,
        charges.c.refunded + bindparam("more") <= charges.c.amount,
    )
    .values(refunded=charges.c.refunded + bindparam("more"))
)
WITHDRAW_PROMISE = (
    update(charges)
    .where(charges.c.id == bindparam("charge_id"))
    .values(refunded=charges.c.refunded - bindparam("less"))
)
STOP_SENDING = (
    update(refunds)
    .where(
        refunds.c.key == bindparam("of_key"),
        refunds.c.status.in_(sorted(REFUND_PENDING)),
        refunds.c.send_until > from_now(0),
    )
    .values(send_until=from_now(0))
)
OPEN_OF_CHARGE = select(refunds.c.id).where(
    refunds.c.charge_id == bindparam("charge_id"), refunds.c.status.in_(sorted(REFUND_PENDING))
).limit(1)  # fmt: skip
SAME_OPEN = OPEN_OF_CHARGE.where(refunds.c.amount == bindparam("amount"), refunds.c.key != bindparam("key"))
COMPARE_AND_SET = (
    update(refunds)
    .where(
        # The key as well as the id, because a database that went back gives the same ids again.
        refunds.c.id == bindparam("refund_id"),
        refunds.c.key == bindparam("seen_key"),
        unindexed(refunds.c.status) == bindparam("seen"),
    )
    .values(
        status=bindparam("to_status", type_=RefundStatusType),
        gateway_reference=func.coalesce(bindparam("to_reference"), refunds.c.gateway_reference),
        reason=bindparam("to_reason"),
        note=bindparam("to_note"),
        gateway_message=func.coalesce(bindparam("to_message"), refunds.c.gateway_message),
        gateway_request_id=func.coalesce(bindparam("to_request_id"), refunds.c.gateway_request_id),
        ended_at=case((bindparam("ended"), from_now(0)), else_=None),
        ask_at=from_now(bindparam("ask_in")),
        asked_at=case((bindparam("by_worker"), from_now(0)), else_=refunds.c.asked_at),
        # An alarm stays until the refund ends.
        attention=case(
            (bindparam("ended"), bindparam("to_attention")),
            else_=func.coalesce(bindparam("to_attention"), refunds.c.attention),
        ),
    )
)


def insert(
    connection: Connection, charge: ChargeSnapshot, key: UUID, amount: int, *, stray: bool, ask_in: float,
    attention: str | None = None,
) -> bool:  # fmt: skip
    """Insert the refund. Return False if the key exists, or if a stray refund of the charge is open or succeeded."""
    values = {
        "charge_id": charge.id, "key": key, "amount": amount, "stray": stray, "ask_in": ask_in,
        "send_for": ask_in + SEND_FOR, "attention": attention and attention[:200],
    }  # fmt: skip
    return CLAIM.execute(connection, values).rowcount == 1


def move(
    connection: Connection, refund: RefundSnapshot, to: RefundStatus, *, answer: Answer | None = None,
    note: str | None = None, ask_in: float = 0, attention: str | None = None,
    message: str | None = None, request_id: str | None = None,
) -> bool:  # fmt: skip
    """Compare-and-set, as for a charge. Return False if the refund has changed since it was read."""
    message, request_id = (answer.message, answer.request_id) if answer else (message, request_id)
    values: dict[str, Any] = {
        "refund_id": refund.id, "seen_key": refund.key, "seen": refund.status,
        "to_status": to, "to_note": note and note[:200],
        "to_reference": answer and answer.gateway_reference, "to_reason": answer and answer.reason,
        "to_message": message and message[:500], "to_request_id": request_id and request_id[:100],
        "ended": to not in REFUND_PENDING, "ask_in": ask_in,
        "by_worker": refund.times_asked > 0, "to_attention": attention and attention[:200],
    }  # fmt: skip
    return connection.execute(COMPARE_AND_SET, values).rowcount == 1


def get(connection: Connection, key: UUID) -> RefundSnapshot:
    """Return the refund and lock its row, so that the COMMIT waits for a synchronous standby (see `confirmed`).

    Raises RowLost if it is not in the database any more.
    """
    if refund := find(connection, key):
        return refund
    raise RowLost("the refund is not in the database any more")


def find(connection: Connection, key: UUID) -> RefundSnapshot | None:
    """Return the refund with this key and lock its row; None if there is none."""
    row = connection.execute(BY_KEY.with_for_update(), {"key": key}).first()
    return snapshot(row) if row else None


def snapshot(row: Sequence[Any]) -> RefundSnapshot:
    """Return a row of COLUMNS as a snapshot."""
    stored: dict[str, Any] = dict(zip(STORED, row, strict=False))
    created_at, send_until, now = row[len(STORED) :]
    age, past_end = (now - created_at).total_seconds(), (now - send_until).total_seconds()
    return RefundSnapshot(
        **stored, fresh=age < FRESH, sendable=past_end < 0, lapsed=past_end > ARRIVES_WITHIN,
        recalled=age - past_end < SEND_FOR - 1,
    )  # fmt: skip
