"""Refunds: claim, ask, record, as for a charge. Each has a key of its own and is claimed before the gateway is asked.

A refund needs no card, so what is in doubt is simply asked for again under the same key: it moves money once.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import structlog
from sqlalchemy import bindparam, case, func, select, update
from sqlalchemy.engine import Connection

from app.charges.models import Charge, Refund
from app.charges.rows import Seen
from app.charges.states import DECLINED, IN_DOUBT, PROCESSING, SUCCEEDED, Status
from app.database import Unreachable, back_off, from_now, insert_once, reading, table, transaction
from app.gateways.base import Answer, Gateway, NotSent, Outcome, Repayment, Unknown
from app.ledger import book

charges, refunds = table(Charge), table(Refund)

UNATTENDED = 5.0
"""Seconds beyond the time-out before recovery takes a refund for abandoned."""

log = structlog.get_logger()


class NotRefundable(Exception):
    """More than is left of the charge, or a charge that took no money; `left` is in minor units."""

    def __init__(self, left: int) -> None:
        super().__init__(left)
        self.left = left


class Owed(NamedTuple):
    """A refund as we saw it; `amount` in minor units."""

    id: int
    charge_id: int
    key: UUID
    amount: int
    status: Status
    stray: bool
    reference: str | None
    asked: int


COLUMNS = [refunds.c[name] for name in Owed._fields]

PROMISE = (
    update(charges)
    .where(
        charges.c.id == bindparam("charge"),
        charges.c.status == SUCCEEDED,
        charges.c.refunded + bindparam("more") <= charges.c.amount,
    )
    .values(refunded=charges.c.refunded + bindparam("more"))
)
TAKE_BACK = (
    update(charges)
    .where(charges.c.id == bindparam("charge"))
    .values(refunded=charges.c.refunded - bindparam("less"))
)
COMPARE_AND_SET = (
    update(refunds)
    .where(refunds.c.id == bindparam("refund"), refunds.c.status == bindparam("seen"))
    .values(
        status=bindparam("to_status"),
        reference=func.coalesce(bindparam("to_reference"), refunds.c.reference),
        reason=bindparam("to_reason"),
        note=bindparam("to_note"),
        ended_at=case((bindparam("ended"), from_now(0)), else_=None),
        ask_at=from_now(bindparam("ask_in")),
    )
)


def refund(charge: Seen, amount: int, gateway: Gateway, seconds: float, key: UUID | None = None) -> Status:
    """Give `amount` (minor units) of a charge back; answers succeeded, declined or in_doubt.

    The same `key` refunds once. Raises NotRefundable: nothing was asked.
    """
    owed = claim(charge, amount, key or uuid4(), seconds)
    if owed.status is not PROCESSING:
        return owed.status
    return settle(owed, charge, gateway, seconds)


def claim(charge: Seen, amount: int, key: UUID, seconds: float) -> Owed:
    """One transaction: the key becomes a refund, its amount promised on the charge, so that no sum exceeds it.

    A commit whose answer is lost is probed by claiming again under the same key.
    """
    try:
        return _claim(charge, amount, key, seconds)
    except Unreachable:
        return _claim(charge, amount, key, seconds)


def _claim(charge: Seen, amount: int, key: UUID, seconds: float) -> Owed:
    with transaction() as connection:
        if amount <= 0:
            raise NotRefundable(_left(connection, charge.id))
        if _insert(connection, charge, key, amount, stray=False, ask_in=seconds + UNATTENDED):
            _promise(connection, charge.id, amount)
        return _get(connection, key)


def _promise(connection: Connection, charge: int, amount: int) -> None:
    """One conditional update: of two refunds at once, the second sees what the first has promised."""
    if connection.execute(PROMISE, {"charge": charge, "more": amount}).rowcount != 1:
        raise NotRefundable(_left(connection, charge))


def claim_stray(connection: Connection, charge: Seen) -> None:
    """Money that should not be there: post it, and owe it back. Once a charge, however often it is reported."""
    if _insert(connection, charge, uuid4(), charge.amount, stray=True, ask_in=0):
        book.post(connection, charge.id, charge.amount, charge.currency, account=book.UNEXPECTED)


def take_over(connection: Connection, charge: Seen, key: UUID, amount: int, reference: str) -> None:
    """A refund that was made at the gateway by hand: promised, posted and ended at once, in the caller's transaction.

    Once a key, however often it is reported. Raises NotRefundable where it exceeds what is left, or the charge
    took no money here.
    """
    if not _insert(connection, charge, key, amount, stray=False, ask_in=0):
        return
    _promise(connection, charge.id, amount)
    owed = _get(connection, key)
    _move(connection, owed, SUCCEEDED, answer=Answer(Outcome.SUCCEEDED, reference, "at_the_gateway"))
    book.post(connection, charge.id, -amount, charge.currency, account=book.SALES, refund=owed.id)


def unsettled(charge: Seen) -> bool:
    """Whether a refund of the charge is still on its way: what is left of it may change yet."""
    with reading() as tx:
        open_ = select(refunds.c.id).where(
            refunds.c.charge_id == charge.id, refunds.c.status.in_([PROCESSING, IN_DOUBT])
        )
        return tx.execute(open_.limit(1)).first() is not None


def settle(owed: Owed, charge: Seen, gateway: Gateway, seconds: float) -> Status:
    """Ask for the refund, again if need be, and record what became of it."""
    repayment = Repayment(str(owed.key), owed.amount, charge.payment)
    try:
        answer = _ask(gateway, repayment, first=owed.asked == 0, seconds=seconds)
    except (NotSent, Unknown) as doubt:
        return record_doubt(owed, str(doubt))
    try:
        return _record(owed, charge, answer)
    except Unreachable:
        return _record(owed, charge, answer)


def _ask(gateway: Gateway, repayment: Repayment, *, first: bool, seconds: float) -> Answer:
    """Who asks again looks first: a gateway may have forgotten the key, but not the refund."""
    known = None if first else gateway.lookup_refund(repayment, seconds)
    return known or gateway.refund(repayment, seconds)


def _record(owed: Owed, charge: Seen, answer: Answer) -> Status:
    to = Status(answer.outcome)
    with transaction() as connection:
        if not _move(connection, owed, to, answer=answer):
            return _get(connection, owed.key).status
        if to is SUCCEEDED:
            account = book.UNEXPECTED if owed.stray else book.SALES
            book.post(connection, charge.id, -owed.amount, charge.currency, account=account, refund=owed.id)
        elif to is DECLINED and not owed.stray:
            connection.execute(TAKE_BACK, {"charge": charge.id, "less": owed.amount})
    log.info("refund_" + to, refund=owed.id, amount=owed.amount, currency=charge.currency, stray=owed.stray)
    return to


def record_doubt(owed: Owed, note: str) -> Status:
    """Not known yet whether the money went back: recovery asks again under the same key."""
    with transaction() as connection:
        if not _move(connection, owed, IN_DOUBT, note=note, ask_in=back_off(owed.asked)):
            return _get(connection, owed.key).status
    log.warning("refund_in_doubt", refund=owed.id, reason=note)
    return IN_DOUBT


def _move(connection: Connection, owed: Owed, to: Status, *, answer: Answer | None = None,
          note: str | None = None, ask_in: float = 0) -> bool:  # fmt: skip
    """Compare-and-set, as for a charge. False: it no longer is as we saw it."""
    values: dict[str, Any] = {
        "refund": owed.id, "seen": owed.status, "to_status": to, "to_note": note and note[:200],
        "to_reference": answer and answer.reference, "to_reason": answer and answer.reason,
        "ended": to in {SUCCEEDED, DECLINED}, "ask_in": ask_in,
    }  # fmt: skip
    return connection.execute(COMPARE_AND_SET, values).rowcount == 1


def _insert(connection: Connection, charge: Seen, key: UUID, amount: int, *, stray: bool, ask_in: float) -> bool:
    row = {
        "charge_id": charge.id, "key": key, "amount": amount, "status": PROCESSING, "stray": stray,
        "ask_at": from_now(ask_in), "asked": 0, "created_at": from_now(0),
    }  # fmt: skip
    return connection.execute(insert_once(refunds).values(**row)).rowcount == 1


def _get(connection: Connection, key: UUID) -> Owed:
    return seen(connection.execute(select(*COLUMNS).where(refunds.c.key == key)).one())


def seen(row: Sequence[Any]) -> Owed:
    """A row of COLUMNS."""
    owed = Owed._make(row)
    return owed._replace(status=Status(owed.status))


def left(charge: Seen) -> int:
    """Minor units of the charge that can still be refunded."""
    with reading() as tx:
        return _left(tx, charge.id)


def _left(connection: Connection, charge: int) -> int:
    found = connection.execute(select(charges.c.status, charges.c.amount - charges.c.refunded)
                               .where(charges.c.id == charge)).one()  # fmt: skip
    return int(found[1]) if found[0] == SUCCEEDED else 0
