"""The request for a Checkout Session: made before the claim and stored with it, so that it can be repeated exactly.

It contains the time at which the session ends, which also fences it after the provider has forgotten its key. Keys are
kept for a day there, and a request whose session would end in less than half an hour is refused. So a request that is
delayed for longer than the key is kept can never create a session.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from time import time
from typing import Any

from app.gateways.base import HostedPayment, NotPayable, Payment, Unknown
from app.gateways.stripe import currencies

LEAST_AHEAD = 30 * 60
"""Seconds between now and a session's end that the provider demands when the session is created."""

SLACK = 10 * 60
"""Seconds for clocks that differ and answers that come late."""

LONGEST_WINDOW = 22 * 3600
"""Largest ACTION_WINDOW in seconds, because no session lives longer than a day."""

NAME_LENGTH = 250

KEY = "payonce_charge"
REFUND_KEY = "payonce_refund"
"""The names of our keys in the provider's metadata."""


@dataclass(frozen=True)
class StoredRequest:
    """A stored request: the API version, when it was made (seconds since 1970, UTC), and its parameters."""

    version: str
    made: int
    params: Mapping[str, Any]

    @classmethod
    def of(cls, payment: Payment) -> "StoredRequest":
        """Return the payment's stored request. Raises Unknown if it has none, as a charge of another gateway."""
        try:
            kept = payment.gateway_request or {}
            return cls(kept["version"], kept["made"], kept["params"])
        except KeyError:
            raise Unknown("its request was not stored", again=False) from None

    @property
    def ends(self) -> int:
        """Return when its session ends, in seconds since 1970, UTC."""
        return int(self.params["expires_at"])

    def repeatable(self) -> bool:
        """Return whether the provider still accepts it and still remembers its key."""
        return time() < self.ends - LEAST_AHEAD

    def void(self) -> bool:
        """Return whether it can never create a session any more, however long it is delayed."""
        return time() > self.ends - LEAST_AHEAD + SLACK


def prepare(payment: HostedPayment, *, version: str, live: bool, window: float) -> dict[str, Any]:
    """Return the complete request. `window` is the seconds that the shopper has; we end the session before it expires.

    Raises NotPayable.
    """
    currencies.check(payment.amount, payment.currency)
    if live and not payment.return_url.startswith("https://"):
        raise NotPayable("insecure")
    made = int(time())
    ends = made + int(window) + LEAST_AHEAD + SLACK
    return {"version": version, "made": made, "params": _params(payment, ends)}


def _params(payment: HostedPayment, ends: int) -> dict[str, Any]:
    ours = {KEY: payment.key}
    params = {
        "mode": "payment",
        # Cards and wallets that hold cards; no method that settles days later.
        "allowed_payment_method_types": ["card"],
        # The price stays in the shop's currency, as the form showed it.
        "adaptive_pricing": {"enabled": False},
        "client_reference_id": payment.key,
        "metadata": ours,
        "payment_intent_data": {"metadata": ours, "description": f"Order {payment.order_id}"},
        "line_items": _line_items(payment),
        "success_url": payment.return_url,
        "cancel_url": payment.return_url,
        "expires_at": ends,
    }
    # The provider refuses addresses with other letters, although they are valid; the shopper can type one there.
    return params | ({"customer_email": payment.email} if payment.email.isascii() else {})


def _line_items(payment: HostedPayment) -> list[dict[str, Any]]:
    """Return the order's lines, or one line for the whole order if the lines would not add up to the amount."""
    items = [(line.name, line.quantity, line.price) for line in payment.lines]
    payable = all(currencies.in_steps(price, payment.currency) for _, _, price in items)
    if not payable or sum(quantity * price for _, quantity, price in items) != payment.amount:
        items = [(f"Order {payment.order_id}", 1, payment.amount)]
    return [_item(name, quantity, price, payment.currency) for name, quantity, price in items]


def _item(name: str, quantity: int, price: int, currency: str) -> dict[str, Any]:
    data = {
        "currency": currency.lower(),
        "unit_amount": currencies.to_provider(price, currency),
        "product_data": {"name": name[:NAME_LENGTH]},
    }
    return {"quantity": quantity, "price_data": data}
