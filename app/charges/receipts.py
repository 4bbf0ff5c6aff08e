"""What a receipt shows: the charge and its order's lines; all of it to the buyer, little to anybody else."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.engine import Connection

from app.charges import rows
from app.charges.models import Charge, Refund
from app.charges.rows import ChargeSnapshot
from app.charges.states import REQUIRES_ACTION, SUCCEEDED, WITHOUT_MONEY, WITHOUT_REFUND, RefundStatus, Status
from app.charges.tokens import reference
from app.database import objects, reading
from app.orders.models import OPEN, ChargeLine, Order

HAS_REFUNDS = select(Refund.id).where(Refund.charge_id == Charge.id).exists()
CHARGE_AND_ORDER = select(Charge, Order, HAS_REFUNDS).join(Order, Order.id == Charge.order_id)


@dataclass(frozen=True)
class Receipt:
    """A receipt as one reader may see it. Times are UTC.

    `amount`, `refunded` (returned to the shopper) and `refunding` (promised, outcome not known yet) are in minor
    units. If `mine` is False, the reader's browser is not the buyer's, and name, e-mail, lines and card are left out.
    """

    id: str
    order_id: int
    status: Status
    amount: int
    currency: str
    refunded: int
    refunding: int
    stray_refund: RefundStatus | None
    """The state of the latest refund of a stray payment, if there was one."""
    refund_failed: int
    """What could not be given back yet, although it was tried; in minor units."""
    created_at: datetime
    ended_at: datetime | None
    mine: bool
    reason: str | None
    arrivals: int
    other_arrivals: int
    email: str | None = None
    name: str | None = None
    last4: str | None = None
    action_url: str | None = None
    hold_until: datetime | None = None
    """Until when the goods are held for this buyer, who has not confirmed the payment yet."""
    lines: Sequence[ChargeLine] = ()
    can_pay_again: bool = False

    @property
    def reference(self) -> str:
        """The part of the id that a person can say on the telephone."""
        return reference(self.id)


def read(receipt_id: str, buyer_id: UUID | None) -> Receipt | None:
    """Return the receipt as this buyer may see it, or None."""
    with reading(together=True) as tx:
        found = objects(tx).execute(CHARGE_AND_ORDER.where(Charge.receipt_id == receipt_id)).first()
        return _receipt(tx, *found, buyer_id) if found else None


def of_buyer(buyer_id: UUID) -> list[Receipt]:
    """Return this buyer's newest 100 receipts, newest first."""
    with reading(together=True) as tx:
        # By the order's buyer, because only orders have an index of it. A charge has the buyer of its order.
        theirs = CHARGE_AND_ORDER.where(Order.buyer_id == buyer_id, Charge.buyer_id == buyer_id)
        theirs = theirs.order_by(Charge.id.desc()).limit(100)
        found = objects(tx).execute(theirs).all()
        return [_receipt(tx, *each, buyer_id) for each in found]


def of_charge(charge_id: int) -> tuple[Receipt, str]:
    """Return a charge's receipt as its buyer sees it, and its URL, for the e-mail."""
    with reading(together=True) as tx:
        charge, order, has_refunds = objects(tx).execute(CHARGE_AND_ORDER.where(Charge.id == charge_id)).one()
        return _receipt(tx, charge, order, has_refunds, charge.buyer_id), charge.receipt_url


def find_charge(receipt_id: str) -> ChargeSnapshot | None:
    """Return the charge behind a receipt, or None."""
    with reading() as tx:
        return rows.of_receipt(tx, receipt_id)


def live_charge_of_buyer(buyer_id: UUID) -> ChargeSnapshot | None:
    """Return the charge that holds the buyer's newest order: pending, or succeeded until a new order is begun."""
    with reading() as tx:
        return rows.live_of_buyer(tx, buyer_id)


def has_paid(buyer_id: UUID) -> bool:
    """Return whether this buyer has paid for an order."""
    paid = select(Charge.id).join(Order, Order.id == Charge.order_id)
    with reading() as tx:
        theirs = paid.where(Order.buyer_id == buyer_id, Charge.status == SUCCEEDED).limit(1)
        return tx.execute(theirs).first() is not None


def _receipt(connection: Connection, charge: Charge, order: Order, has_refunds: bool, buyer_id: UUID | None) -> Receipt:
    mine = charge.buyer_id == buyer_id
    refunds = _refunds(connection, charge) if has_refunds else []
    refunded = sum(each.amount for each in refunds if each.status is RefundStatus.SUCCEEDED and not each.stray)
    strays = [each for each in refunds if each.stray]
    receipt = Receipt(
        id=charge.receipt_id, order_id=order.id, status=charge.status, amount=charge.amount, currency=charge.currency,
        refunded=refunded, refunding=charge.refunded - refunded, created_at=charge.created_at,
        ended_at=charge.ended_at, mine=mine, reason=charge.reason,
        stray_refund=strays[-1].status if strays else None, refund_failed=_failed(charge, refunds),
        arrivals=charge.arrivals, other_arrivals=charge.other_arrivals,
    )  # fmt: skip
    return _with_details(connection, receipt, charge, order) if mine else receipt


def _refunds(connection: Connection, charge: Charge) -> Sequence[Refund]:
    return objects(connection).scalars(select(Refund).where(Refund.charge_id == charge.id).order_by(Refund.id)).all()


def _failed(charge: Charge, refunds: Sequence[Refund]) -> int:
    """Return what the shopper still does not have, although a refund of it was tried: up to what is not refunded."""
    if refunds and refunds[-1].stray:
        last = refunds[-1]
        return charge.amount if last.attention or last.status in WITHOUT_REFUND else 0
    failed = sum(each.amount for each in refunds if each.status is RefundStatus.FAILED)
    return min(failed, charge.amount - charge.refunded)


def _with_details(connection: Connection, receipt: Receipt, charge: Charge, order: Order) -> Receipt:
    """Add what only the buyer may see."""
    lines = select(ChargeLine).where(ChargeLine.charge_id == charge.id).order_by(ChargeLine.position)
    return replace(
        receipt, email=charge.email, name=charge.name, last4=charge.last4,
        lines=tuple(objects(connection).scalars(lines)),
        action_url=charge.action_url if receipt.status is REQUIRES_ACTION else None,
        hold_until=charge.hold_until if receipt.status is REQUIRES_ACTION else None,
        can_pay_again=receipt.status in WITHOUT_MONEY and order.state == OPEN and bool(order.lines),
    )  # fmt: skip
