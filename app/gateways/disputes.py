"""Disputes (chargebacks) as gateways report them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal


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
