"""The request for a Checkout Session: made whole before the claim, and stored with it to be repeated exactly.

It carries the time at which the session ends. That is also the fence behind the provider's memory of keys: keys live
a day there, and a request whose session would end in less than half an hour is refused, so one that was held
back for longer than the key lives can never make a session any more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from time import time
from typing import Any

from app.gateways.base import HostedPayment, NotPayable, Payment, Unknown
from app.gateways.stripe import currencies

LEAST_AHEAD = 30 * 60
"""Seconds that a session must have before it, at the provider, when it is made."""

SLACK = 10 * 60
"""Seconds for clocks that differ and for answers that come late."""

LONGEST_WINDOW = 22 * 3600
"""Seconds of ACTION_WINDOW at most: no session lives longer than a day."""

MOST_WORDS = 250

KEY = "payonce_charge"
REFUND_KEY = "payonce_refund"
"""Under these names our keys stand in the provider's metadata."""


@dataclass(frozen=True)
class Kept:
    """The stored request: the library's version that wrote it, when (seconds since 1970 UTC), and its parameters."""

    version: str
    made: int
    params: Mapping[str, Any]

    @classmethod
    def of(cls, payment: Payment) -> "Kept":
        """Raises Unknown where none was stored, as for a charge of another gateway."""
        try:
            kept = payment.gateway_request or {}
            return cls(kept["version"], kept["made"], kept["params"])
        except KeyError:
            raise Unknown("its request was not stored", again=False) from None

    @property
    def ends(self) -> int:
        """When its session ends, in seconds since 1970 UTC."""
        return int(self.params["expires_at"])

    def repeatable(self) -> bool:
        """Whether the provider still takes it, and still remembers its key."""
        return time() < self.ends - LEAST_AHEAD

    def void(self) -> bool:
        """Whether it can never make a session any more, wherever it may be on its way."""
        return time() > self.ends - LEAST_AHEAD + SLACK


def prepare(payment: HostedPayment, *, version: str, live: bool, window: float) -> dict[str, Any]:
    """The whole request. `window` is how long (seconds) the shopper has; the session outlives it, we end it ourselves.

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
        # Cards, and wallets that hold cards: nothing that settles days later.
        "allowed_payment_method_types": ["card"],
        # The price is what the form showed, in the shop's currency.
        "adaptive_pricing": {"enabled": False},
        "client_reference_id": payment.key,
        "metadata": ours,
        "payment_intent_data": {"metadata": ours, "description": f"Order {payment.order_id}"},
        "line_items": _line_items(payment),
        "success_url": payment.return_url,
        "cancel_url": payment.return_url,
        "expires_at": ends,
    }
    # Addresses with other letters are valid, but refused there; the shopper can type one on the page.
    return params | ({"customer_email": payment.email} if payment.email.isascii() else {})


def _line_items(payment: HostedPayment) -> list[dict[str, Any]]:
    """The order's lines; the order as one line where the provider would not add them up to what is paid."""
    items = [(line.name, line.quantity, line.price) for line in payment.lines]
    payable = all(currencies.in_steps(price, payment.currency) for _, _, price in items)
    if not payable or sum(quantity * price for _, quantity, price in items) != payment.amount:
        items = [(f"Order {payment.order_id}", 1, payment.amount)]
    return [_item(name, quantity, price, payment.currency) for name, quantity, price in items]


def _item(name: str, quantity: int, price: int, currency: str) -> dict[str, Any]:
    data = {
        "currency": currency.lower(),
        "unit_amount": currencies.to_provider(price, currency),
        "product_data": {"name": name[:MOST_WORDS]},
    }
    return {"quantity": quantity, "price_data": data}
