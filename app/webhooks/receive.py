"""Receive one event: ask the gateway for the present state, then record it together with the event, once.

An event is a hint, not a fact: it may come late, twice, out of order, or for a payment that is not ours. So the
gateway is asked with no transaction open, and the answer is recorded as always, by compare-and-set.
"""

from dataclasses import replace
from uuid import UUID

import structlog
from sqlalchemy import bindparam, select
from sqlalchemy.engine import Connection

from app.charges import present, rows
from app.charges.gateway_refunds import Ended, Unsettled
from app.charges.outcomes import Recorded
from app.charges.present import Facts
from app.charges.refunds import NotRefundable
from app.charges.rows import ChargeSnapshot
from app.database import InsertOnce, from_now, reading, table, transaction
from app.gateways.base import EventSender, EventSubject, GatewayEvent
from app.webhooks.models import WebhookEvent

events = table(WebhookEvent)
KNOWN = select(events.c.effect).where(
    events.c.gateway == bindparam("gateway"), events.c.event_id == bindparam("event_id")
)
STORED = ("gateway", "event_id", "kind", "effect", "charge_id", "note", "happened_at")
STORE = InsertOnce(events, {name: bindparam(name) for name in STORED} | {"received_at": from_now(0)})

log = structlog.get_logger()


class Later(Exception):
    """The event can't be processed yet. The gateway must send it again."""


def receive(event: GatewayEvent, gateway: EventSender, seconds: float) -> str:
    """Return the effect of the event, now or when it first came. `seconds` limits each question to the gateway.

    Raises NotSent, Unknown, Unreachable or Later: nothing was stored, so the gateway must send the event again.
    """
    if effect := _stored_effect(event, gateway):
        return effect
    if event.subject is EventSubject.OTHER:
        return _store_alone(event, gateway, None, "ignored")
    charge = _find_charge(event, gateway, seconds)
    if charge is None:
        log.warning("event_foreign", kind=event.kind, event_id=event.id)
        return _store_alone(event, gateway, None, "foreign")
    return _record(event, gateway, charge, _ask(event, gateway, charge, seconds))


def _stored_effect(event: GatewayEvent, gateway: EventSender) -> str | None:
    with reading() as tx:
        found = tx.execute(KNOWN, {"gateway": gateway.name, "event_id": event.id}).scalar()
    return str(found) if found else None


def _find_charge(event: GatewayEvent, gateway: EventSender, seconds: float) -> ChargeSnapshot | None:
    """Return the charge that the event is about, if it is ours and was made with this gateway and account."""
    try:
        key = UUID(gateway.key_of(event, seconds))
    except (ValueError, TypeError):
        return None
    with reading() as tx:
        charge = rows.of_key(tx, key)
    return charge if charge and (charge.gateway, charge.account) == (gateway.name, gateway.account) else None


def _ask(event: GatewayEvent, gateway: EventSender, charge: ChargeSnapshot, seconds: float) -> Facts:
    payment = charge.payment
    if payment.gateway_reference is None and event.subject is EventSubject.PAYMENT:
        payment = replace(payment, gateway_reference=event.gateway_reference)
    return present.ask(
        gateway, payment, seconds,
        with_refunds=event.subject is EventSubject.REFUND, with_disputes=event.subject is EventSubject.DISPUTE,
    )  # fmt: skip


def _record(event: GatewayEvent, gateway: EventSender, charge: ChargeSnapshot, facts: Facts) -> str:
    recorded, ended = Recorded(charge), list[Ended]()
    try:
        with transaction() as connection:
            charge = rows.read_again(connection, charge, lock=False)
            is_new = _store(connection, event, gateway, charge, "recorded")
            if is_new:
                recorded, ended = present.record(connection, charge, facts)
    except Unsettled:
        raise Later("a refund of the same payment is still open") from None
    except NotRefundable:
        return _refuse_refund(event, gateway, charge)
    recorded.log()
    for each in ended:
        each.log(charge)
    if is_new:
        log.info(
            "event_recorded", kind=event.kind, event_id=event.id, receipt=charge.receipt_id,
            claim_request_id=charge.request_id,
        )  # fmt: skip
    return "recorded"


def _refuse_refund(event: GatewayEvent, gateway: EventSender, charge: ChargeSnapshot) -> str:
    """More was refunded at the gateway than is left here, and no refund of ours is open: note it."""
    log.error("refund_exceeds_charge", kind=event.kind, event_id=event.id, receipt=charge.receipt_id)
    text = "refunded at the gateway, but more than this charge has left; see the audit"
    return _store_alone(replace(event, text=text), gateway, charge, "noted")


def _store_alone(event: GatewayEvent, gateway: EventSender, charge: ChargeSnapshot | None, effect: str) -> str:
    with transaction() as tx:
        _store(tx, event, gateway, charge, effect)
    return effect


def _store(
    connection: Connection, event: GatewayEvent, gateway: EventSender, charge: ChargeSnapshot | None, effect: str
) -> bool:
    """Store the event. Return False if another request has stored it and done what follows from it."""
    row = {
        "gateway": gateway.name, "event_id": event.id, "kind": event.kind, "effect": effect,
        "charge_id": charge and charge.id, "note": event.text and event.text[:200], "happened_at": event.at,
    }  # fmt: skip
    return STORE.execute(connection, row).rowcount == 1
