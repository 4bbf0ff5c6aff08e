"""What gateways send by themselves, and what they report about disputes (chargebacks)."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal


class EventSubject(StrEnum):
    """What an event is about, as far as the shop reacts to it."""

    PAYMENT = "payment"
    REFUND = "refund"
    DISPUTE = "dispute"
    OTHER = "other"


@dataclass(frozen=True)
class GatewayEvent:
    """One event that a gateway sent. Events arrive late and out of order, so the shop then asks for the present state.

    `id` and `kind` are the gateway's, `key` is the payment's, `gateway_reference` the gateway's id for the payment,
    `text` a sentence for the merchant; `at` is in UTC.
    """

    id: str
    kind: str
    subject: EventSubject
    at: datetime
    key: str | None = None
    gateway_reference: str | None = None
    text: str | None = None


class BadEvent(Exception):
    """The event is not from the gateway: its signature is missing, wrong or too old, or its body is unreadable."""


@dataclass(frozen=True)
class GatewayDispute:
    """A chargeback at the gateway. `amount` and `fee` are in minor units of the charge's currency.

    `withdrawn` and `reinstated` say whether the gateway has taken the amount from the shop, and given it back.
    """

    gateway_reference: str
    status: Literal["open", "won", "lost"]
    amount: int
    withdrawn: bool
    reinstated: bool
    fee: int
    reason: str | None
    evidence_due_at: datetime | None
