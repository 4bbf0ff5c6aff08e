"""Refunds: claim, ask, record, as for a charge. Each refund has a key of its own, claimed before the gateway is asked.

A refund needs no card, so recovery repeats a refund in doubt under the same key. The key moves money once.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

import structlog
from sqlalchemy import bindparam, case, func, select, update
from sqlalchemy.engine import Connection

from app.charges.models import Charge, Refund, RefundStatusType
from app.charges.rows import RECOVERY_MARGIN, ChargeSnapshot, RowLost
from app.charges.states import REFUND_PENDING, RefundStatus, Status
from app.charges.tokens import new_key
from app.database import InsertOnce, confirmed, from_now, reading, table, transaction
from app.gateways.base import Answer, Gateway, NotSent, Outcome, RefundRequest, Unknown
from app.leases import back_off
from app.ledger import book

charges, refunds = table(Charge), table(Refund)

log = structlog.get_logger()


class NotRefundable(Exception):
    """The amount exceeds what is left of the charge, or the charge took no money. `left` is in minor units."""

    def __init__(self, left: int) -> None:
        super().__init__(left)
        self.left = left


class AlreadyOpen(Exception):
    """Another refund of the same charge and amount is still open. Nothing was asked."""


class KeyTaken(Exception):
    """The key belongs to a refund of another charge or amount. Nothing was asked."""


class RefundSnapshot(NamedTuple):
    """A refund as this process read it. `amount` is in minor units."""

    id: int
    charge_id: int
    key: UUID
    amount: int
    status: RefundStatus
    stray: bool
    gateway_reference: str | None
    times_asked: int


COLUMNS = [refunds.c[name] for name in RefundSnapshot._fields]

CLAIM = InsertOnce(
    refunds,
    {name: bindparam(name) for name in ("charge_id", "key", "amount", "stray")}
    | {
        "status": RefundStatus.PROCESSING,
        "times_asked": 0,
        "created_at": from_now(0),
        "ask_at": from_now(bindparam("ask_in")),
    },
)
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
OPEN_OF_CHARGE = select(refunds.c.id).where(
    refunds.c.charge_id == bindparam("charge_id"), refunds.c.status.in_(sorted(REFUND_PENDING))
).limit(1)  # fmt: skip
SAME_OPEN = OPEN_OF_CHARGE.where(refunds.c.amount == bindparam("amount"), refunds.c.key != bindparam("key"))
COMPARE_AND_SET = (
    update(refunds)
    .where(
        refunds.c.id == bindparam("refund_id"),
        refunds.c.key == bindparam("seen_key"),
        refunds.c.status == bindparam("seen"),
    )
    .values(
        status=bindparam("to_status", type_=RefundStatusType),
        gateway_reference=func.coalesce(bindparam("to_reference"), refunds.c.gateway_reference),
        reason=bindparam("to_reason"),
        note=bindparam("to_note"),
        ended_at=case((bindparam("ended"), from_now(0)), else_=None),
        ask_at=from_now(bindparam("ask_in")),
        asked_at=case((bindparam("by_worker"), from_now(0)), else_=refunds.c.asked_at),
        attention=bindparam("to_attention"),
    )
)


def refund(
    charge: ChargeSnapshot,
    amount: int,
    gateway: Gateway,
    seconds: float,
    key: UUID | None = None,
    *,
    again: bool = True,
) -> RefundStatus:
    """Refund `amount` (minor units) of a charge. Return RefundStatus.SUCCEEDED, DECLINED or RefundStatus.IN_DOUBT.

    The same `key` refunds once. `seconds` is the deadline for each question to the gateway. Unless `again`, a refund
    of the same amount that is still open is refused. Raises NotRefundable, AlreadyOpen or KeyTaken: the gateway was
    not asked.
    """
    claimed = claim(charge, amount, key or new_key(), seconds, again=again)
    if (claimed.charge_id, claimed.amount) != (charge.id, amount):
        raise KeyTaken
    if claimed.status is not RefundStatus.PROCESSING:
        return claimed.status
    return settle(claimed, charge, gateway, seconds)


def claim(charge: ChargeSnapshot, amount: int, key: UUID, seconds: float, *, again: bool = True) -> RefundSnapshot:
    """Insert the refund under its key and promise its amount on the charge, so that refunds never exceed it.

    Raises NotRefundable, AlreadyOpen, or Unreachable if it is not known whether the claim was committed.
    """
    return confirmed(lambda tx: _claim(tx, charge, amount, key, seconds, again))


def _claim(
    connection: Connection, charge: ChargeSnapshot, amount: int, key: UUID, seconds: float, again: bool
) -> RefundSnapshot:
    if not 0 < amount <= charge.amount:  # A larger number may not even fit into the column.
        raise NotRefundable(_left(connection, charge.id))
    if insert(connection, charge, key, amount, stray=False, ask_in=seconds + RECOVERY_MARGIN):
        _promise(connection, charge.id, amount)  # It locks the charge, so that the next question sees all refunds.
        same = {"charge_id": charge.id, "amount": amount, "key": key}
        if not again and connection.execute(SAME_OPEN, same).first():
            raise AlreadyOpen
    return _get(connection, key)


def _promise(connection: Connection, charge_id: int, amount: int) -> None:
    """One conditional update: of two refunds at once, the second sees the first one's promise."""
    if connection.execute(PROMISE, {"charge_id": charge_id, "more": amount}).rowcount != 1:
        raise NotRefundable(_left(connection, charge_id))


def take_over(connection: Connection, charge: ChargeSnapshot, key: UUID, amount: int, gateway_reference: str) -> None:
    """Record a refund that was made by hand at the gateway, in the caller's transaction. Idempotent per key.

    Raises NotRefundable if it exceeds what is left of the charge, or if the charge took no money here.
    """
    if not insert(connection, charge, key, amount, stray=False, ask_in=0):
        return
    _promise(connection, charge.id, amount)
    taken = _get(connection, key)
    _move(
        connection, taken, RefundStatus.SUCCEEDED, answer=Answer(Outcome.SUCCEEDED, gateway_reference, "at_the_gateway")
    )
    book.post(connection, charge.id, -amount, charge.currency, kind=book.Kind.REFUND, refund_id=taken.id)


def is_unsettled(connection: Connection, charge: ChargeSnapshot) -> bool:
    """Return whether a refund of the charge is still open, so that what is left of the charge may change."""
    return connection.execute(OPEN_OF_CHARGE, {"charge_id": charge.id}).first() is not None


def settle(refund: RefundSnapshot, charge: ChargeSnapshot, gateway: Gateway, seconds: float) -> RefundStatus:
    """Ask for the refund, again if necessary, and record what became of it."""
    request = RefundRequest(str(refund.key), refund.amount, charge.payment)
    try:
        answer = _ask(gateway, request, first=refund.times_asked == 0, seconds=seconds)
    except (NotSent, Unknown) as doubt:
        return record_doubt(refund, str(doubt))
    return _record(refund, charge, answer)


def _ask(gateway: Gateway, request: RefundRequest, *, first: bool, seconds: float) -> Answer:
    """From the second time on, look first: the gateway may have forgotten the key, but not the refund."""
    known = None if first else gateway.lookup_refund(request, seconds)
    return known or gateway.refund(request, seconds)


def _record(refund: RefundSnapshot, charge: ChargeSnapshot, answer: Answer) -> RefundStatus:
    to = RefundStatus(answer.outcome)
    status, written = confirmed(lambda tx: _record_within(tx, refund, charge, to, answer))
    if written:
        log.info(
            f"refund_{to}", refund_id=refund.id, amount=refund.amount, currency=charge.currency, stray=refund.stray
        )
    return status


def _record_within(
    connection: Connection, refund: RefundSnapshot, charge: ChargeSnapshot, to: RefundStatus, answer: Answer
) -> tuple[RefundStatus, bool]:
    """Return the refund's state, and whether this process wrote it."""
    if not _move(connection, refund, to, answer=answer):
        return _get(connection, refund.key).status, False
    if to is RefundStatus.SUCCEEDED:
        account = book.UNEXPECTED if refund.stray else book.SALES
        book.post(
            connection, charge.id, -refund.amount, charge.currency,
            kind=book.Kind.REFUND, account=account, refund_id=refund.id,
        )  # fmt: skip
    elif to is RefundStatus.DECLINED and not refund.stray:
        connection.execute(WITHDRAW_PROMISE, {"charge_id": charge.id, "less": refund.amount})
    return to, True


def record_doubt(refund: RefundSnapshot, note: str, attention: str | None = None) -> RefundStatus:
    """Record that it is not known whether the money went back. Recovery asks again under the same key.

    `attention` says why a person must look at the refund.
    """
    ask_in = back_off(refund.times_asked)
    with transaction() as connection:
        if not _move(connection, refund, RefundStatus.IN_DOUBT, note=note, ask_in=ask_in, attention=attention):
            return _get(connection, refund.key).status
    log.warning("refund_in_doubt", refund_id=refund.id, reason=note)
    return RefundStatus.IN_DOUBT


def _move(connection: Connection, refund: RefundSnapshot, to: RefundStatus, *, answer: Answer | None = None,
          note: str | None = None, ask_in: float = 0, attention: str | None = None) -> bool:  # fmt: skip
    """Compare-and-set, as for a charge. Return False if the refund has changed since it was read."""
    values: dict[str, Any] = {
        "refund_id": refund.id, "seen_key": refund.key, "seen": refund.status,
        "to_status": to, "to_note": note and note[:200],
        "to_reference": answer and answer.gateway_reference, "to_reason": answer and answer.reason,
        "ended": to not in REFUND_PENDING, "ask_in": ask_in,
        "by_worker": refund.times_asked > 0, "to_attention": attention and attention[:200],
    }  # fmt: skip
    return connection.execute(COMPARE_AND_SET, values).rowcount == 1


def insert(
    connection: Connection, charge: ChargeSnapshot, key: UUID, amount: int, *, stray: bool, ask_in: float
) -> bool:
    """Insert the refund. Return False if the key exists, or if the charge already has a stray refund."""
    values = {"charge_id": charge.id, "key": key, "amount": amount, "stray": stray, "ask_in": ask_in}
    return CLAIM.execute(connection, values).rowcount == 1


def _get(connection: Connection, key: UUID) -> RefundSnapshot:
    """Return the refund and lock its row, so that the COMMIT waits for a synchronous standby (see `confirmed`).

    Raises RowLost if it is not in the database any more.
    """
    row = connection.execute(select(*COLUMNS).where(refunds.c.key == key).with_for_update()).first()
    if row is None:
        raise RowLost("the refund is not in the database any more")
    return snapshot(row)


def snapshot(row: Sequence[Any]) -> RefundSnapshot:
    """Return a row of COLUMNS as a snapshot."""
    return RefundSnapshot._make(row)


def left(charge: ChargeSnapshot) -> int:
    """Return the minor units of the charge that can still be refunded."""
    with reading() as tx:
        return _left(tx, charge.id)


def _left(connection: Connection, charge_id: int) -> int:
    query = select(charges.c.status, charges.c.amount - charges.c.refunded).where(charges.c.id == charge_id)
    status, amount = connection.execute(query).one()
    return int(amount) if status is Status.SUCCEEDED else 0
