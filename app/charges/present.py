"""The present state of a payment at a gateway that sends events, and how it is recorded.

An event makes the shop ask for it. If the event is lost, a person can do so.
"""

from dataclasses import dataclass, replace

from sqlalchemy.engine import Connection

from app.charges import disputes, gateway_refunds, protocol
from app.charges.gateway_refunds import Ended
from app.charges.outcomes import Recorded
from app.charges.rows import ChargeSnapshot
from app.gateways.base import Answer, EventSender, GatewayDispute, GatewayRefund, Payment


@dataclass(frozen=True)
class Facts:
    """The present state at the gateway."""

    answer: Answer | None
    refunds: list[GatewayRefund]
    disputes: list[GatewayDispute]


def ask(
    gateway: EventSender, payment: Payment, seconds: float, *, with_refunds: bool = True, with_disputes: bool = True
) -> Facts:
    """Return the state of the payment, and of its refunds and disputes if wanted. Raises NotSent or Unknown.

    `seconds` limits each question.
    """
    answer = gateway.lookup(payment, seconds)
    if answer is not None and answer.gateway_reference:
        payment = replace(payment, gateway_reference=answer.gateway_reference)
    refunded = gateway.refunds_of(payment, seconds) if with_refunds else []
    return Facts(answer, refunded, gateway.disputes_of(payment, seconds) if with_disputes else [])


def record(connection: Connection, charge: ChargeSnapshot, facts: Facts) -> tuple[Recorded, list[Ended]]:
    """Record the state in the caller's transaction. Idempotent. Log what is returned after the commit.

    Raises refunds.NotRefundable or gateway_refunds.Unsettled, see `gateway_refunds.record`.
    """
    recorded = protocol.record_within(connection, charge, facts.answer) if facts.answer else Recorded(charge)
    for dispute in facts.disputes:
        disputes.record(connection, recorded.charge, dispute)
    return recorded, gateway_refunds.record(connection, recorded.charge, facts.refunds)
