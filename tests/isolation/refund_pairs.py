"""The pairs of actors of which one refunds, or records money that came late."""

from uuid import uuid4

from app.charges import refunds
from app.charges.tokens import new_key
from app.gateways.base import EventSubject, GatewayRefund
from tests.charges.gateways import APPROVED, DECLINED
from tests.factories import MUG, order
from tests.isolation.acts import (
    SECONDS,
    an_event,
    claimed,
    due,
    ended,
    knows,
    receives,
    records,
    recovers,
    refunds_part,
)
from tests.isolation.schedules import Act, Start


def two_refunds() -> Start:
    """Each is two thirds of the charge: one of them must be refused."""
    charge = ended(claimed(order({MUG: 3})), APPROVED)
    part = charge.amount * 2 // 3
    return Start([refunds_part(charge, part), refunds_part(charge, part)], knows((charge, APPROVED)))


def same_refund() -> Start:
    charge = ended(claimed(order()), APPROVED)
    one = refunds_part(charge, charge.amount)
    return Start([one, one], knows((charge, APPROVED)))


def refund_and_recovery() -> Start:
    charge = ended(claimed(order()), APPROVED)
    refund = refunds.claim(charge, charge.amount, new_key(), SECONDS)
    due()
    settle = Act(lambda bank: refunds.settle(refund, charge, bank, SECONDS))
    return Start([settle, recovers()], knows((charge, APPROVED)))


def declined_refund_and_refund() -> Start:
    """A refund that the bank declines gives its promise back while another one is being claimed."""
    charge = ended(claimed(order()), APPROVED)
    refund = refunds.claim(charge, charge.amount, new_key(), SECONDS)
    bank = knows((charge, APPROVED), refuses=[refund.key])
    settle = Act(lambda bank: refunds.settle(refund, charge, bank, SECONDS))
    return Start([settle, refunds_part(charge, charge.amount)], bank)


def refund_and_event() -> Start:
    """A refund here, and the webhook of another one that was made by hand at the bank; together they exceed."""
    charge = ended(claimed(order({MUG: 3})), APPROVED)
    part = charge.amount * 2 // 3
    by_hand = GatewayRefund(str(uuid4()), part, "re_1", ours=False)
    bank = knows((charge, APPROVED), by_hand=[by_hand])
    return Start([refunds_part(charge, part), receives(an_event(charge, EventSubject.REFUND))], bank)


def refund_events() -> Start:
    """Two webhooks of one refund that was made by hand, such as Stripe's refund.created and charge.refunded."""
    charge = ended(claimed(order()), APPROVED)
    by_hand = GatewayRefund(str(uuid4()), charge.amount, "re_1", ours=False)
    bank = knows((charge, APPROVED), by_hand=[by_hand])
    return Start([receives(an_event(charge, EventSubject.REFUND)) for _ in range(2)], bank)


def strays_twice() -> Start:
    charge = claimed(order())
    ended(charge, DECLINED)
    return Start([records(charge, APPROVED), records(charge, APPROVED)], knows((charge, APPROVED)))


def late_event_and_refund() -> Start:
    """Two webhooks of a pending charge: paid, and already refunded by hand."""
    charge = claimed(order())
    by_hand = GatewayRefund(str(uuid4()), charge.amount, "re_1", ours=False)
    bank = knows((charge, APPROVED), by_hand=[by_hand])
    return Start([receives(an_event(charge)), receives(an_event(charge, EventSubject.REFUND))], bank)
