"""What a gateway says about the refunds of a charge: made by hand, decided late, or failed after they had succeeded."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import bindparam, select
from sqlalchemy.engine import Connection

from app.charges import refund_rows, refunds, rows
from app.charges.refund_rows import RefundSnapshot
from app.charges.rows import ChargeSnapshot
from app.charges.states import REFUND_PENDING, WITHOUT_MONEY, RefundStatus
from app.gateways.base import Answer, GatewayRefund, Outcome

AT_THE_GATEWAY = "at_the_gateway"
"""The reason of a refund that was made by hand."""

OPEN_STRAY = (
    select(*refund_rows.COLUMNS)
    .where(
        refund_rows.refunds.c.charge_id == bindparam("charge_id"),
        refund_rows.refunds.c.stray,
        refund_rows.refunds.c.status.in_(sorted(REFUND_PENDING)),
    )
    .with_for_update()
)


class Unsettled(Exception):
    """A refund of the same charge is still open, so it is not known what is left of the charge."""


class Ended(NamedTuple):
    """A refund whose end this process wrote. Log it after the commit."""

    refund: RefundSnapshot
    status: RefundStatus
    reason: str | None

    def log(self, charge: ChargeSnapshot) -> None:
        """Log how the refund ended."""
        refunds.log_ended(self.refund, charge, self.status, self.reason)


def record(connection: Connection, charge: ChargeSnapshot, found: Sequence[GatewayRefund]) -> list[Ended]:
    """Record the present state of all refunds of a charge, in the caller's transaction. Idempotent.

    Return what this process wrote. All known refunds are locked first, because each refund is locked before its charge
    everywhere. Raises refunds.NotRefundable if a refund made by hand exceeds what is left of the charge, or if the
    charge took no money, and Unsettled if it may fit once an open refund has ended.
    """
    ordered = sorted(found, key=lambda each: each.key)
    known = {each: refund_rows.find(connection, UUID(each.key)) for each in ordered}
    ended = [_update(connection, charge, refund, each) for each, refund in known.items() if refund]
    by_hand = [each for each, refund in known.items() if refund is None and not each.ours]
    ended += _take_over_all(connection, charge, [each for each in by_hand if each.outcome is Outcome.SUCCEEDED])
    return [each for each in ended if each]


def _take_over_all(
    connection: Connection, charge: ChargeSnapshot, by_hand: Sequence[GatewayRefund]
) -> list[Ended | None]:
    unsettled = False
    if by_hand and charge.status not in WITHOUT_MONEY:
        rows.read_again(connection, charge)  # Locked, so that no refund is claimed or settled meanwhile.
        unsettled = refunds.is_unsettled(connection, charge)
    try:
        return [_take_over(connection, charge, each) for each in by_hand]
    except refunds.NotRefundable:
        if unsettled:
            raise Unsettled from None
        raise


def _update(
    connection: Connection, charge: ChargeSnapshot, refund: RefundSnapshot, found: GatewayRefund
) -> Ended | None:
    if refund.status in REFUND_PENDING and found.outcome:
        answer = Answer(found.outcome, found.gateway_reference, found.reason)
        return Ended(refund, refunds.record_within(connection, refund, charge, answer)[0], found.reason)
    if refund.status is RefundStatus.SUCCEEDED and found.outcome is Outcome.DECLINED:
        return _fail(connection, charge, refund, found)
    return None


def _fail(connection: Connection, charge: ChargeSnapshot, refund: RefundSnapshot, found: GatewayRefund) -> Ended:
    """The money came back to the shop: reverse the refund, and tell a person, because the shopper still has nothing."""
    answer = Answer(Outcome.DECLINED, found.gateway_reference, found.reason)
    attention = f"the refund failed after it had succeeded ({found.reason}); give the money back in another way"
    refund_rows.move(connection, refund, RefundStatus.FAILED, answer=answer, attention=attention)
    refunds.follow(connection, refund, charge, RefundStatus.FAILED, found.reason)
    return Ended(refund, RefundStatus.FAILED, found.reason)


def _take_over(connection: Connection, charge: ChargeSnapshot, found: GatewayRefund) -> Ended | None:
    """Record a refund that was made by hand. If it gives a stray payment back, the open refund for it is withdrawn.

    That one was for the whole amount as well, so the gateway can't make it any more.
    """
    stray = charge.status in WITHOUT_MONEY
    if stray:
        _withdraw_stray(connection, charge, found.amount)
    if not refund_rows.insert(connection, charge, UUID(found.key), found.amount, stray=stray, ask_in=0):
        return None
    if not stray:
        refunds.promise(connection, charge.id, found.amount)
    taken = refund_rows.get(connection, UUID(found.key))
    answer = Answer(Outcome.SUCCEEDED, found.gateway_reference, AT_THE_GATEWAY)
    return Ended(taken, refunds.record_within(connection, taken, charge, answer)[0], AT_THE_GATEWAY)


def _withdraw_stray(connection: Connection, charge: ChargeSnapshot, amount: int) -> None:
    row = connection.execute(OPEN_STRAY, {"charge_id": charge.id}).first()
    if row is None or amount != charge.amount:
        raise refunds.NotRefundable(0)
    answer = Answer(Outcome.CANCELED, reason=AT_THE_GATEWAY)
    refund_rows.move(connection, refund_rows.snapshot(row), RefundStatus.WITHDRAWN, answer=answer)
