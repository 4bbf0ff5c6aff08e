"""What a receipt says: the charge and its frozen lines, whole for its buyer and bare for everybody else."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from app.charges import rows
from app.charges.models import Charge, Refund
from app.charges.rows import Seen
from app.charges.states import REQUIRES_ACTION, SUCCEEDED, WITHOUT_MONEY, Status
from app.database import objects, reading
from app.orders.models import OPEN, Order, OrderLine

CHARGE_AND_ORDER = select(Charge, Order).join(Order, Order.id == Charge.order_id)


@dataclass(frozen=True)
class Receipt:
    """A receipt as one reader may see it. Times are UTC; `amount`, `refunded` (given back) and `refunding` (on its
    way, not yet known) are in minor units.

    For a foreign browser `mine` is False, and names, e-mail, lines and card digits are left out.
    """

    id: UUID
    order: int
    status: Status
    amount: int
    currency: str
    refunded: int
    refunding: int
    stray: str | None
    """Where money was taken after all: how its refund stands."""
    at: datetime
    ended_at: datetime | None
    mine: bool
    reason: str | None
    arrivals: int
    rivals: int
    email: str | None = None
    name: str | None = None
    last4: str | None = None
    action_url: str | None = None
    lines: Sequence[OrderLine] = ()
    can_pay_again: bool = False

    @property
    def number(self) -> str:
        """Short, for people to say on the telephone."""
        return self.id.hex[:8].upper()


def read(receipt: UUID, buyer: UUID | None) -> Receipt | None:
    """The receipt as this buyer may see it, None where there is none."""
    with reading() as tx:
        found = objects(tx).execute(CHARGE_AND_ORDER.where(Charge.receipt == receipt)).first()
        return _receipt(tx, *found, buyer) if found else None


def of_buyer(buyer: UUID) -> list[Receipt]:
    """This buyer's receipts, newest first."""
    with reading() as tx:
        theirs = CHARGE_AND_ORDER.where(Order.buyer == buyer).order_by(Charge.id.desc()).limit(100)
        found = objects(tx).execute(theirs).all()
        return [_receipt(tx, charge, order, buyer) for charge, order in found]


def live_of_buyer(buyer: UUID) -> Seen | None:
    """The charge that holds the buyer's newest order: pending, or succeeded as long as no new order is begun."""
    with reading() as tx:
        return rows.live_of_buyer(tx, buyer)


def seen(receipt: UUID) -> Seen | None:
    """The charge behind a receipt, for asking the gateway about it."""
    with reading() as tx:
        return rows.of_receipt(tx, receipt)


def whole(charge: int) -> tuple[Receipt, str]:
    """A charge's whole receipt and its link, for the letter to its buyer."""
    with reading() as tx:
        row, order = objects(tx).execute(CHARGE_AND_ORDER.where(Charge.id == charge)).one()
        return _receipt(tx, row, order, order.buyer), row.link


def _receipt(connection: Connection, charge: Charge, order: Order, buyer: UUID | None) -> Receipt:
    mine = order.buyer == buyer
    refunded = _given_back(connection, charge) if charge.refunded else 0
    stray = select(Refund.status).where(Refund.charge_id == charge.id, Refund.stray)
    status = Status(charge.status)
    receipt = Receipt(
        id=charge.receipt, order=order.id, status=status, amount=charge.amount, currency=charge.currency,
        refunded=refunded, refunding=charge.refunded - refunded, at=charge.created_at, ended_at=charge.ended_at,
        mine=mine, stray=connection.scalar(stray) if charge.status in WITHOUT_MONEY else None,
        reason=charge.reason, arrivals=charge.arrivals, rivals=charge.rivals,
    )  # fmt: skip
    return _whole(receipt, charge, order) if mine else receipt


def _given_back(connection: Connection, charge: Charge) -> int:
    done = select(func.sum(Refund.amount)).where(
        Refund.charge_id == charge.id, Refund.status == SUCCEEDED, ~Refund.stray
    )
    return int(connection.scalar(done) or 0)


def _whole(receipt: Receipt, charge: Charge, order: Order) -> Receipt:
    """With what only its buyer may see."""
    return replace(
        receipt, email=charge.email, name=charge.name, last4=charge.last4, lines=tuple(order.lines),
        action_url=charge.action_url if receipt.status is REQUIRES_ACTION else None,
        can_pay_again=receipt.status in WITHOUT_MONEY and order.state == OPEN,
    )  # fmt: skip
