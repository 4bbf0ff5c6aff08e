"""One notice: find out what is so now, then record it together with the event, once.

A notice is a hint and not a fact: it comes late, twice, out of order, or for somebody else. So the gateway is
asked, with no transaction open, and what it answers is recorded as everywhere else: by compare-and-set.
"""

from dataclasses import dataclass, replace
from uuid import UUID

import structlog
from sqlalchemy import bindparam, select
from sqlalchemy.engine import Connection

from app.charges import protocol, refunds, rows
from app.charges.refunds import NotRefundable
from app.charges.rows import Seen
from app.database import from_now, insert_once, reading, table, transaction
from app.gateways.base import About, Answer, Notice, Notifier, Refunded
from app.webhooks.models import Event

EFFECTS = {About.PAYMENT: "recorded", About.REFUND: "recorded", About.DISPUTE: "noted"}

events = table(Event)
KNOWN = select(events.c.effect).where(events.c.gateway == bindparam("gateway"), events.c.event == bindparam("event"))

log = structlog.get_logger()


class Later(Exception):
    """It can't be followed yet; the gateway shall tell again."""


@dataclass(frozen=True)
class Facts:
    """What is so at the gateway, asked after the notice came."""

    answer: Answer | None
    refunded: list[Refunded]


def receive(notice: Notice, gateway: Notifier, seconds: float) -> str:
    """The effect that the event had, now or when it came first. `seconds` is for each question to the gateway.

    Raises NotSent, Unknown, Unreachable or Later: nothing was stored, so the event must come again.
    """
    if effect := _effect_of(notice, gateway):
        return effect
    if notice.about is About.OTHER:
        return _store_alone(notice, gateway, None, "ignored")
    charge = _charge(notice, gateway, seconds)
    if charge is None:
        log.warning("webhook_foreign", kind=notice.kind, event_id=notice.id)
        return _store_alone(notice, gateway, None, "foreign")
    return _record(notice, gateway, charge, _find_out(notice, gateway, charge, seconds))


def _effect_of(notice: Notice, gateway: Notifier) -> str | None:
    with reading() as tx:
        found = tx.execute(KNOWN, {"gateway": gateway.name, "event": notice.id}).scalar()
    return str(found) if found else None


def _charge(notice: Notice, gateway: Notifier, seconds: float) -> Seen | None:
    """Our charge that it is about, if it is one, and was made at this gateway and account."""
    try:
        key = UUID(gateway.key_of(notice, seconds))
    except (ValueError, TypeError):
        return None
    with reading() as tx:
        charge = rows.of_token(tx, key)
    return charge if charge and (charge.gateway, charge.account) == (gateway.name, gateway.account) else None


def _find_out(notice: Notice, gateway: Notifier, charge: Seen, seconds: float) -> Facts:
    payment = charge.payment
    if payment.reference is None and notice.about is About.PAYMENT:
        payment = replace(payment, reference=notice.reference)
    answer = gateway.lookup(payment, seconds)
    if answer is not None and answer.reference:
        payment = replace(payment, reference=answer.reference)
    refunded = gateway.refunds_of(payment, seconds) if notice.about is About.REFUND else []
    return Facts(answer, [each for each in refunded if not each.ours])


def _record(notice: Notice, gateway: Notifier, charge: Seen, facts: Facts) -> str:
    effect = EFFECTS[notice.about]
    try:
        with transaction() as connection:
            if _store(connection, notice, gateway, charge, effect):
                after = _follow(connection, charge, facts)
                log.info("webhook_" + effect, kind=notice.kind, receipt=str(charge.receipt), status=after.status)
    except NotRefundable:
        return _not_taken_over(notice, gateway, charge)
    return effect


def _follow(connection: Connection, charge: Seen, facts: Facts) -> Seen:
    """Everything that the gateway's facts mean for the books, in the event's own transaction."""
    if facts.answer:
        charge = protocol.record_within(connection, charge, facts.answer)
    for refund in facts.refunded:
        refunds.take_over(connection, charge, UUID(refund.key), refund.amount, refund.reference)
    return charge


def _not_taken_over(notice: Notice, gateway: Notifier, charge: Seen) -> str:
    """More went back there than is left here: later, while a refund of ours is open; else somebody must look."""
    if refunds.unsettled(charge):
        raise Later("a refund of the same payment is still on its way")
    log.error("webhook_refund_not_ours", kind=notice.kind, receipt=str(charge.receipt))
    words = "refunded at the gateway, but more than this charge has left; see the audit"
    return _store_alone(replace(notice, text=words), gateway, charge, "noted")


def _store_alone(notice: Notice, gateway: Notifier, charge: Seen | None, effect: str) -> str:
    with transaction() as tx:
        _store(tx, notice, gateway, charge, effect)
    return effect


def _store(connection: Connection, notice: Notice, gateway: Notifier, charge: Seen | None, effect: str) -> bool:
    """False: a twin of this event was stored first, and has done what is to be done."""
    row = {
        "gateway": gateway.name, "event": notice.id, "kind": notice.kind, "effect": effect,
        "charge_id": charge and charge.id, "note": notice.text and notice.text[:200],
        "happened_at": notice.at, "received_at": from_now(0),
    }  # fmt: skip
    return connection.execute(insert_once(events).values(**row)).rowcount == 1
