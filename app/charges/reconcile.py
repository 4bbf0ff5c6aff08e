"""Repair the books entry by entry, as a person decides: adopt or refund money that only the gateway has, and close
charges that nobody can ask about any more. Each repair is idempotent, so it can be repeated after a crash.
"""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple
from uuid import UUID, uuid5

from sqlalchemy import Uuid, bindparam, select, text
from sqlalchemy.engine import Connection

from app.charges import gateway_refunds, outcomes, present, protocol, recovery, refunds, rows
from app.charges.gateway_refunds import Ended
from app.charges.models import Refund
from app.charges.rows import ChargeSnapshot
from app.charges.statement import beside_the_books, spooled
from app.charges.states import CANCELED, PENDING, PROCESSING, SUCCEEDED, WITHOUT_MONEY, RefundStatus
from app.charges.tokens import new_receipt_id
from app.database import UtcDateTime, confirmed, reading, table
from app.gateways.base import Answer, Contradiction, EventSender, Gateway, GatewayRefund, Gateways, Outcome
from app.ledger import book
from app.money import format_money
from app.orders import adopted

ADOPTED = "adopted"
"""The reason of a charge that was adopted. Its buyer and goods are not known."""

CLOSED = "closed"
"""The reason of a charge that a person has closed."""

refund_table = table(Refund)

REVERSED = "reversed"
"""The reason of a charge under whose key the gateway took another amount, all of which was refunded there."""

REFUNDS = UUID("4c1f6f0a-52c9-5a0e-8a3c-8f1f7f0f9d27")
"""The namespace of the keys under which lost payments are refunded: one per payment, so that repeating is harmless."""

CHOSEN = text("""
    SELECT s.key, s.kind, s.amount, s.currency, s.at, s.payment, s.reference, p.key AS charge_key, s.lost
    FROM bank_statement s LEFT JOIN bank_statement p ON p.payment = s.payment AND p.kind = 'charge'
    WHERE s.kind IN ('charge', 'refund') AND s.key IS NOT NULL AND (s.lost OR s.key IN :keys) ORDER BY s.kind, s.at
""").bindparams(bindparam("keys", expanding=True, type_=Uuid())).columns(
    key=Uuid(), at=UtcDateTime(), charge_key=Uuid()
)  # fmt: skip

TAKEN = text("""
    SELECT p.amount, p.currency,
        (SELECT coalesce(sum(CASE kind WHEN 'refund' THEN amount ELSE -amount END), 0) FROM bank_statement s
         WHERE s.payment = p.payment AND s.currency = p.currency AND s.kind IN ('refund', 'refund_failed')) AS gave,
        (SELECT coalesce(sum(CASE kind WHEN 'dispute' THEN amount ELSE -amount END), 0) FROM bank_statement s
         WHERE s.key = p.key AND s.kind IN ('dispute', 'dispute_reversed')) AS disputed
    FROM bank_statement p WHERE p.key = :key AND p.kind = 'charge'
""").bindparams(bindparam("key", type_=Uuid()))  # fmt: skip


OPEN = "a refund of its payment is still open; repeat the command when it has ended"
EXCEEDS = "more was refunded at the gateway than the books have left of the payment"


class Refused(Exception):
    """Nothing was changed. The message says why."""


class Entry(NamedTuple):
    """A line of the statement that the books have lost, or that was chosen. `charge_key` is the key of its payment."""

    key: UUID
    kind: str
    amount: int
    currency: str
    at: datetime
    payment: str | None
    reference: str | None
    charge_key: UUID | None
    lost: bool


def entries(gateway: Gateway, shop_id: str, chosen: Collection[UUID] = ()) -> list[Entry]:
    """Return our charges and refunds that only the gateway has, and every one with a key in `chosen`. Charges first.

    Raises Unreachable, NotSent or Unknown.
    """
    with spooled(gateway.statement(), shop_id) as file, beside_the_books(file, overdue=0) as connection:
        return [Entry(*row) for row in connection.execute(CHOSEN, {"keys": list(chosen)})]


def is_in_books(key: UUID) -> bool:
    """Return whether a charge or a refund has this key."""
    with reading() as tx:
        known = tx.execute(select(refund_table.c.id).where(refund_table.c.key == key)).first()
        return known is not None or rows.of_key(tx, key) is not None


def adopt(entry: Entry, gateway: Gateway) -> bool:
    """Write the entry into the books. Return False if it was there. Raises Refused or Unreachable.

    If the books say that the charge ended without money, it becomes a stray payment, which recovery gives back.
    """
    if charge := _ended_charge(entry):
        return _record_stray(entry, charge)
    if is_in_books(entry.key):
        return False
    if entry.kind == "charge":
        confirmed(lambda tx: _adopt_charge(tx, entry, gateway))
    else:
        charge, ended = confirmed(lambda tx: _adopt_refund(tx, entry))
        for each in ended:
            each.log(charge)
    return True


def _ended_charge(entry: Entry) -> ChargeSnapshot | None:
    """Return the entry's charge if the books say that it ended without money."""
    with reading() as tx:
        charge = rows.of_key(tx, entry.key) if entry.kind == "charge" else None
    return charge if charge and charge.status in WITHOUT_MONEY else None


def _record_stray(entry: Entry, charge: ChargeSnapshot) -> bool:
    if (entry.amount, entry.currency) != (charge.amount, charge.currency):
        raise Refused("the gateway took another amount than the books know")
    taken = Answer(Outcome.SUCCEEDED, entry.payment)
    recorded = confirmed(lambda tx: protocol.record_within(tx, charge, taken))
    recorded.log()
    return recorded.event is not None


def _adopt_charge(connection: Connection, entry: Entry, gateway: Gateway) -> ChargeSnapshot:
    """Insert an order, its charge and its ledger entries. The charge's unique key forbids a second time."""
    if known := rows.of_key(connection, entry.key):
        return rows.read_again(connection, known)
    random_id, buyer_id = adopted.place(connection, entry.currency)
    charge = rows.insert(
        connection, unattended=0, key=entry.key, receipt_id=new_receipt_id(), status=PROCESSING,
        order_random_id=random_id, buyer_id=buyer_id, amount=entry.amount, currency=entry.currency,
        email="", name="", last4=None, receipt_url="",
        gateway=gateway.name, account=gateway.account, gateway_request=None,
    )  # fmt: skip
    if charge is None:
        raise Refused("another process has just written this key; repeat the command")
    adopted.add_line(connection, charge.id, entry.amount)
    rows.move(connection, charge, SUCCEEDED, Answer(Outcome.SUCCEEDED, entry.payment, ADOPTED))
    book.post(connection, charge.id, entry.amount, entry.currency, kind=book.Kind.CHARGE)
    return charge


def _adopt_refund(connection: Connection, entry: Entry) -> tuple[ChargeSnapshot, list[Ended]]:
    """Take the refund over as one that was made by hand, because the books do not know that it is ours."""
    charge = rows.of_key(connection, entry.charge_key) if entry.charge_key else None
    if charge is None:
        raise Refused(f"adopt its payment first: {entry.charge_key or entry.payment}")
    made = GatewayRefund(str(entry.key), entry.amount, entry.reference or str(entry.key), ours=False)
    try:
        return charge, gateway_refunds.record(connection, charge, [made])
    except gateway_refunds.Unsettled:
        raise Refused(OPEN) from None
    except refunds.NotRefundable as error:
        raise Refused(f"the books hold only {error.left} minor units of its payment {charge.receipt_id}") from None


def refund(entry: Entry, found: Collection[Entry], gateway: Gateway, seconds: float) -> RefundStatus:
    """Refund what is left of a lost payment: adopt it and its refunds among `found`, then refund as always.

    Repeating it asks under the same key. Raises Refused or Unreachable.
    """
    if entry.kind != "charge":
        raise Refused("this is a refund already")
    if _ended_charge(entry):
        adopt(entry, gateway)
        return RefundStatus.PROCESSING
    if not adopt(entry, gateway) and not _was_adopted(entry.key):
        raise Refused("its payment is in the books: use the command refund")
    for each in found:
        if each.kind == "refund" and each.charge_key == entry.key:
            adopt(each, gateway)
    key = uuid5(REFUNDS, str(entry.key))
    with reading() as tx:
        charge = rows.snapshot(tx.execute(rows.BY_KEY, {"key": entry.key}).one())
        before = tx.execute(select(refund_table.c.status).where(refund_table.c.key == key)).scalar()
    if before is not None:
        return RefundStatus(before)
    left = refunds.left(charge)
    return refunds.refund(charge, left, gateway, seconds, key) if left else RefundStatus.SUCCEEDED


def _was_adopted(key: UUID) -> bool:
    with reading() as tx:
        return tx.execute(select(rows.charges.c.reason).where(rows.charges.c.key == key)).scalar() == ADOPTED


def catch_up(charge: ChargeSnapshot, gateway: Gateway, seconds: float) -> None:
    """Ask for the present state of a payment, its refunds and disputes, and record what lost events would have.

    If the gateway took another amount than ours, end the charge, provided that all of it was refunded there.
    Raises Refused, NotSent, Unknown or Unreachable.
    """
    try:
        if not isinstance(gateway, EventSender):
            gateway.lookup(charge.payment, seconds)  # Raises Contradiction.
            raise Refused(f"{gateway.name} sends no events, so none can be lost")
        facts = present.ask(gateway, charge.payment, seconds)
    except Contradiction:
        _end_contradicted(charge, gateway, seconds)
        return
    try:
        recorded, ended = confirmed(lambda tx: present.record(tx, rows.read_again(tx, charge, lock=False), facts))
    except (gateway_refunds.Unsettled, refunds.NotRefundable) as error:
        raise Refused(OPEN if isinstance(error, gateway_refunds.Unsettled) else EXCEEDS) from None
    recorded.log()
    for each in ended:
        each.log(charge)


def _end_contradicted(charge: ChargeSnapshot, gateway: Gateway, seconds: float) -> None:
    """End the charge as canceled if its key can take no money any more, and the gateway holds none of what it took."""
    if charge.status is SUCCEEDED:
        raise Refused("the gateway took another amount than the books say")
    try:
        answer = recovery.cancel(charge, gateway, seconds, "contradicted")
    except Contradiction:
        _refuse_held(charge, gateway)
        answer = Answer(Outcome.CANCELED, reason=REVERSED)
    protocol.record(charge, answer)


def _refuse_held(charge: ChargeSnapshot, gateway: Gateway) -> None:
    """Raise Refused unless the gateway's statement shows what the key took, and that all of it was refunded."""
    with spooled(gateway.statement(), "") as file, beside_the_books(file, overdue=0) as connection:
        taken = connection.execute(TAKEN, {"key": charge.key}).all()
    if len(taken) != 1:
        raise Refused("the statement does not show yet what the gateway took under this key; repeat the command later")
    amount, currency, gave, disputed = taken[0]
    if disputed:
        raise Refused(f"{format_money(int(disputed), currency)} of this payment are disputed at the gateway")
    if gave != amount:
        held = format_money(int(amount - gave), currency)
        raise Refused(f"the gateway holds {held} that it took under this key: refund it there and repeat the command")


def close(charge: ChargeSnapshot, gateways: Gateways, reason: str) -> None:
    """End a charge without money, because its gateway and account are gone and a person knows that it took none.

    Raises Refused if the charge has ended otherwise, or if its gateway can be asked.
    """
    if gateways.of(charge.gateway, charge.account) is not None:
        raise Refused(f"{charge.gateway} {charge.account} is configured, so recovery finds out what became of it")
    confirmed(lambda tx: _close(tx, charge, reason))


def _close(connection: Connection, charge: ChargeSnapshot, reason: str) -> None:
    now = rows.read_again(connection, charge)
    if now.status is CANCELED:
        return
    if now.status not in PENDING:
        raise Refused(f"it has ended already: {now.status}")
    rows.move(connection, now, CANCELED, Answer(Outcome.CANCELED, reason=CLOSED), note=f"closed: {reason}"[:200])
    outcomes.follow(connection, now._replace(status=CANCELED))
