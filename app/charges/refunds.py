"""Refunds: claim, ask, record, as for a charge. Each refund has a key of its own, claimed before the gateway is asked.

A refund needs no card, so recovery repeats a refund in doubt under the same key. The key moves money once, but only as
long as the gateway knows it. So every try but the first looks for the refund at the gateway first; a process sends only
shortly after it has read the row; and nothing is sent any more after `send_until`. A refund that the gateway still does
not have when nothing can arrive any more is withdrawn: it ends, and its amount can be refunded again.
"""

from uuid import UUID

import structlog
from sqlalchemy import select
from sqlalchemy.engine import Connection

from app import measures
from app.charges import refund_rows, strays
from app.charges.refund_rows import RefundSnapshot
from app.charges.rows import RECOVERY_MARGIN, ChargeSnapshot
from app.charges.states import REFUND_PENDING, WITHOUT_REFUND, RefundStatus, Status
from app.charges.tokens import new_key
from app.database import confirmed, reading, transaction
from app.gateways.base import Answer, Gateway, NotSent, Outcome, RefundRequest, Unknown
from app.leases import back_off
from app.ledger import book

STATUSES = {
    Outcome.SUCCEEDED: RefundStatus.SUCCEEDED,
    Outcome.DECLINED: RefundStatus.DECLINED,
    Outcome.CANCELED: RefundStatus.WITHDRAWN,
}

log = structlog.get_logger()


class NotRefundable(Exception):
    """The amount exceeds what is left of the charge, or the charge took no money. `left` is in minor units."""

    def __init__(self, left: int) -> None:
        super().__init__(left)
        self.left = left


class AlreadyOpen(Exception):
    """Another refund of the same charge and amount is still open. Nothing was asked."""


class KeyTaken(Exception):
    """The key belongs to a refund of another charge or amount, or to none. Nothing was asked."""


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
    if refund_rows.insert(connection, charge, key, amount, stray=False, ask_in=seconds + RECOVERY_MARGIN):
        promise(connection, charge.id, amount)  # It locks the charge, so that the next question sees all refunds.
        same = {"charge_id": charge.id, "amount": amount, "key": key}
        if not again and connection.execute(refund_rows.SAME_OPEN, same).first():
            raise AlreadyOpen
    return refund_rows.get(connection, key)


def promise(connection: Connection, charge_id: int, amount: int) -> None:
    """One conditional update: of two refunds at once, the second sees the first one's promise. Raises NotRefundable."""
    if connection.execute(refund_rows.PROMISE, {"charge_id": charge_id, "more": amount}).rowcount != 1:
        raise NotRefundable(_left(connection, charge_id))


def withdraw(charge: ChargeSnapshot, key: UUID, gateway: Gateway, seconds: float) -> RefundStatus:
    """Send nothing more for an open refund, and end it as withdrawn once nothing that was sent can arrive any more.

    Return its status: WITHDRAWN, IN_DOUBT (recovery will withdraw it) or how it had ended. Raises KeyTaken if the
    charge has no such refund, or if the refund gives a stray payment back.
    """
    refund = confirmed(lambda tx: _stop_sending(tx, charge, key))
    return settle(refund, charge, gateway, seconds) if refund.status in REFUND_PENDING else refund.status


def _stop_sending(connection: Connection, charge: ChargeSnapshot, key: UUID) -> RefundSnapshot:
    connection.execute(refund_rows.STOP_SENDING, {"of_key": key})
    refund = refund_rows.find(connection, key)
    if refund is None or refund.charge_id != charge.id or refund.stray:
        raise KeyTaken
    return refund


def is_unsettled(connection: Connection, charge: ChargeSnapshot) -> bool:
    """Return whether a refund of the charge is still open, so that what is left of the charge may change."""
    return connection.execute(refund_rows.OPEN_OF_CHARGE, {"charge_id": charge.id}).first() is not None


def settle(refund: RefundSnapshot, charge: ChargeSnapshot, gateway: Gateway, seconds: float) -> RefundStatus:
    """Ask for the refund, again if necessary, and record what became of it."""
    try:
        answer = _ask(gateway, RefundRequest(str(refund.key), refund.amount, charge.payment), refund, seconds)
    except (NotSent, Unknown) as doubt:
        return record_doubt(refund, doubt)
    return _record(refund, charge, answer)


def _ask(gateway: Gateway, request: RefundRequest, refund: RefundSnapshot, seconds: float) -> Answer:
    """Return the gateway's answer. The first try comes so soon after the claim that looking can be left out."""
    is_first = refund.times_asked == 0 and refund.fresh and refund.sendable
    if not is_first and (known := gateway.lookup_refund(request, seconds)):
        return known
    if refund.lapsed:  # It had lapsed before the look-up, so nothing can arrive after it.
        return Answer(Outcome.CANCELED, reason="never_arrived")
    if not refund.sendable:
        raise NotSent("the gateway does not have it; it is not sent any more, and ends when nothing can arrive")
    if refund.since_read.seconds() > seconds + RECOVERY_MARGIN:
        raise NotSent("this process was held up, so another one asks")
    return gateway.refund(request, seconds)


def _record(refund: RefundSnapshot, charge: ChargeSnapshot, answer: Answer) -> RefundStatus:
    status, written = confirmed(lambda tx: record_within(tx, refund, charge, answer))
    if written:
        log_ended(refund, charge, status, answer.reason)
    return status


def record_within(
    connection: Connection, refund: RefundSnapshot, charge: ChargeSnapshot, answer: Answer
) -> tuple[RefundStatus, bool]:
    """Write what became of an open refund. Return its state, and whether this process wrote it."""
    to = STATUSES[answer.outcome]
    gave_up = to is RefundStatus.WITHDRAWN and not refund.recalled
    attention = "it never reached the gateway; refund again if it is still wanted" if gave_up else None
    if not refund_rows.move(connection, refund, to, answer=answer, attention=attention):
        return refund_rows.get(connection, refund.key).status, False
    follow(connection, refund, charge, to, answer.reason)
    return to, True


def follow(
    connection: Connection, refund: RefundSnapshot, charge: ChargeSnapshot, to: RefundStatus, reason: str | None
) -> None:
    """Post the money; if it was not given back, release the promise, or owe a stray payment's refund again."""
    moved = {RefundStatus.SUCCEEDED: book.Kind.REFUND, RefundStatus.FAILED: book.Kind.REFUND_FAILED}
    if to in moved:
        amount = refund.amount if to is RefundStatus.FAILED else -refund.amount
        account = book.UNEXPECTED if refund.stray else book.SALES
        book.post(connection, charge.id, amount, charge.currency, kind=moved[to], account=account, refund_id=refund.id)
    if to in WITHOUT_REFUND and refund.stray:
        strays.retry(connection, charge, f"{to}: {reason}")
    elif to in WITHOUT_REFUND:
        connection.execute(refund_rows.WITHDRAW_PROMISE, {"charge_id": charge.id, "less": refund.amount})


def log_ended(refund: RefundSnapshot, charge: ChargeSnapshot, status: RefundStatus, reason: str | None) -> None:
    """Log how a refund ended; as an error if a person must look at it."""
    measures.OUTCOMES.labels("refunds", status).inc()
    alarming = status is RefundStatus.FAILED or (refund.stray and status in WITHOUT_REFUND)
    write = log.error if alarming else log.info
    write(
        f"refund_{status}", refund_id=refund.id, amount=refund.amount, currency=charge.currency, stray=refund.stray,
        reason=reason,
    )  # fmt: skip


def record_doubt(refund: RefundSnapshot, doubt: NotSent | Unknown, *, alarm: bool = False) -> RefundStatus:
    """Record that it is not known whether the money went back. Recovery asks again under the same key.

    A person must look at the refund if `alarm`, if the gateway's answer is an alarm, or if it is too old to be sent.
    """
    note, said = str(doubt), doubt if isinstance(doubt, Unknown) else Unknown(str(doubt))
    alarm = alarm or said.alarm or not (refund.sendable or refund.recalled)
    with transaction() as connection:
        if not refund_rows.move(
            connection, refund, RefundStatus.IN_DOUBT, note=note, ask_in=back_off(refund.times_asked),
            attention=note if alarm else None, message=said.message, request_id=said.request_id,
        ):  # fmt: skip
            return refund_rows.get(connection, refund.key).status
    measures.OUTCOMES.labels("refunds", RefundStatus.IN_DOUBT).inc()
    log.warning("refund_in_doubt", refund_id=refund.id, reason=note)
    return RefundStatus.IN_DOUBT


def left(charge: ChargeSnapshot) -> int:
    """Return the minor units of the charge that can still be refunded."""
    with reading() as tx:
        return _left(tx, charge.id)


def _left(connection: Connection, charge_id: int) -> int:
    of = refund_rows.charges.c
    query = select(of.status, of.amount - of.refunded).where(of.id == charge_id)
    status, amount = connection.execute(query).one()
    return int(amount) if status is Status.SUCCEEDED else 0
