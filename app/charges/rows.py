"""The statements that the protocol speaks to the charge table with, each built once and each a single statement."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import BindParameter, ColumnClause, bindparam, case, func, literal_column, or_, select, update
from sqlalchemy.engine import Connection

from app.charges.models import ARRIVALS_COUNTED, Charge
from app.charges.states import LIVE, PENDING, Status
from app.database import from_now, insert_once, table
from app.gateways.base import Answer, Payment
from app.orders.models import Order

charges = table(Charge)


class Seen(NamedTuple):
    """A charge as we saw it; what is written next is written only if it still is so."""

    id: int
    token: UUID
    receipt: UUID
    order_id: int
    status: Status
    amount: int
    currency: str
    gateway: str
    account: str
    reference: str | None
    request: dict[str, object] | None
    action_url: str | None
    link: str
    arrivals: int
    rivals: int

    @property
    def payment(self) -> Payment:
        """What the gateway is asked about, under this charge's own key."""
        return Payment(str(self.token), self.amount, self.currency, self.link, self.reference, self.request)


COLUMNS = [charges.c[name] for name in Seen._fields]
STATUS: BindParameter[str] = bindparam("to_status")


def _spelt(statuses: frozenset[Status]) -> list[ColumnClause[str]]:
    """For IN: constants, which partial indexes are found by. Parameters would be put together at each execution."""
    return [literal_column(f"'{status}'") for status in sorted(statuses)]


GIVEN = (
    "token", "receipt", "order_id", "status", "amount", "currency",
    "email", "name", "last4", "link", "gateway", "account", "request",
)  # fmt: skip

CLAIM = (
    insert_once(charges)
    .values(
        {name: bindparam(name) for name in GIVEN}
        | {"arrivals": 1, "rivals": 0, "refunded": 0, "asked": 0}
        | {"created_at": from_now(0), "ask_at": from_now(bindparam("unattended"))}
    )
    .returning(*COLUMNS)
)

BY_ID = select(*COLUMNS).where(charges.c.id == bindparam("charge"))

BY_TOKEN = select(*COLUMNS).where(charges.c.token == bindparam("token"))

BY_TOKEN_OR_ORDER = select(*COLUMNS).where(
    or_(
        charges.c.token == bindparam("token"),
        (charges.c.order_id == bindparam("order")) & charges.c.status.in_(_spelt(LIVE)),
    )
)

BY_RECEIPT = select(*COLUMNS).where(charges.c.receipt == bindparam("receipt"))

NEWEST_ORDER = (
    select(Order.id).where(Order.buyer == bindparam("buyer")).order_by(Order.id.desc()).limit(1).scalar_subquery()
)
LIVE_OF_BUYER = select(*COLUMNS).where(charges.c.order_id == NEWEST_ORDER, charges.c.status.in_(_spelt(LIVE)))

COMPARE_AND_SET = (
    update(charges)
    .where(charges.c.id == bindparam("charge"), charges.c.status == bindparam("seen"))
    .values(
        status=STATUS,
        reference=func.coalesce(bindparam("to_reference"), charges.c.reference),
        reason=bindparam("to_reason"),
        action_url=bindparam("to_action_url"),
        note=bindparam("to_note"),
        ended_at=case((STATUS.in_(_spelt(PENDING)), None), else_=from_now(0)),
        ask_at=from_now(bindparam("ask_in")),
    )
)

POSTPONE = (
    update(charges)
    .where(charges.c.id == bindparam("charge"), charges.c.status == bindparam("seen"))
    .values(status=STATUS, note=bindparam("to_note"), ask_at=from_now(bindparam("ask_in")))
)

ARRIVED = update(charges).where(charges.c.id == bindparam("charge"), charges.c.arrivals < ARRIVALS_COUNTED).values(
    arrivals=charges.c.arrivals + 1
)  # fmt: skip
RIVALLED = update(charges).where(charges.c.id == bindparam("charge"), charges.c.rivals < ARRIVALS_COUNTED).values(
    rivals=charges.c.rivals + 1
)  # fmt: skip


def insert(connection: Connection, unattended: float, **columns: object) -> Seen | None:
    """Claim: the new charge, or None where its token or its order is another charge's already.

    `unattended` is the seconds after which recovery may look after it.
    """
    row = connection.execute(CLAIM, {"unattended": unattended, **columns}).first()
    return seen(row) if row else None


def find(connection: Connection, token: UUID, order: int) -> Seen | None:
    """The charge that holds the token, or else the live one of the order."""
    found = [seen(row) for row in connection.execute(BY_TOKEN_OR_ORDER, {"token": token, "order": order})]
    # Two where the token's own was declined and another form pays the order now.
    return max(found, key=lambda charge: charge.token == token, default=None)


def of_token(connection: Connection, token: UUID) -> Seen | None:
    """The charge of this key, None where it is none of ours."""
    row = connection.execute(BY_TOKEN, {"token": token}).first()
    return seen(row) if row else None


def get(connection: Connection, charge: int) -> Seen:
    """The charge as it is now."""
    return seen(connection.execute(BY_ID, {"charge": charge}).one())


def of_receipt(connection: Connection, receipt: UUID) -> Seen | None:
    """The charge behind a receipt, None where there is no such receipt."""
    row = connection.execute(BY_RECEIPT, {"receipt": receipt}).first()
    return seen(row) if row else None


def live_of_buyer(connection: Connection, buyer: UUID) -> Seen | None:
    """The one charge that holds the buyer's newest order, if there is one."""
    row = connection.execute(LIVE_OF_BUYER, {"buyer": buyer}).first()
    return seen(row) if row else None


def move(connection: Connection, charge: Seen, to: Status, answer: Answer | None = None, *,
         note: str | None = None, ask_in: float = 0) -> bool:  # fmt: skip
    """Compare-and-set: `to` is written only if the charge still is as we saw it. False: it no longer is."""
    values = {
        "charge": charge.id, "seen": charge.status, "to_status": to, "to_note": note, "ask_in": ask_in,
        "to_reference": answer and answer.reference,
        "to_reason": answer and answer.reason,
        "to_action_url": answer and answer.action_url,
    }  # fmt: skip
    return connection.execute(COMPARE_AND_SET, values).rowcount == 1


def count_arrival(connection: Connection, charge: int, *, same_form: bool) -> None:
    """One more form arrived for a charge that exists. Beyond the first few nothing is written: a flood stays cheap."""
    connection.execute(ARRIVED if same_form else RIVALLED, {"charge": charge})


def postpone(connection: Connection, charge: Seen, to: Status, note: str, ask_in: float) -> bool:
    """Compare-and-set: still not known, for this reason; ask again in so many seconds."""
    values = {"charge": charge.id, "seen": charge.status, "to_status": to, "to_note": note[:200], "ask_in": ask_in}
    return connection.execute(POSTPONE, values).rowcount == 1


def seen(row: Sequence[Any]) -> Seen:
    """A row of COLUMNS."""
    charge = Seen._make(row)
    return charge._replace(status=Status(charge.status))
