"""The request for a Checkout Session: made before the claim and stored with it, so that it can be repeated exactly.

It contains the time at which the session ends. This time also fences the request after the provider has forgotten its
key. The provider keeps keys for a day, and it refuses a request whose session would end in less than half an hour. So
a request that is delayed for longer than the key is kept can never create a session.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from time import time
from typing import Any

from app.gateways.base import HostedPayment, NotPayable, Payment, Unknown
from app.gateways.stripe import currencies

LEAST_AHEAD = 30 * 60
"""Seconds that the provider demands between the creation of a session and its end."""

SLACK = 10 * 60
"""Seconds for clocks that differ and answers that come late."""

LONGEST_WINDOW = 22 * 3600
"""Largest ACTION_WINDOW in seconds, because no session lives longer than a day."""

SEARCH_LIMIT = 6 * 3600
"""Seconds after its fence for which a request can wait for a search that does not end."""

NAME_LENGTH = 250

KEY = "payonce_charge"
REFUND_KEY = "payonce_refund"
SHOP_ID = "payonce_shop"
ORDER = "payonce_order"
"""The names of what we write into the provider's metadata: our keys, SHOP_ID, and the order's random id."""


@dataclass(frozen=True)
class StoredRequest:
    """A request as it is stored with the claim, in `Payment.gateway_request`.

    `version` is the API version that it was made for, `made_at` is in seconds since 1970, UTC.
    """

    version: str
    made_at: int
    params: Mapping[str, Any]

    @classmethod
    def of(cls, payment: Payment) -> "StoredRequest":
        """Return the payment's stored request. Raises Unknown if it has none, like a charge of another gateway."""
        try:
            stored = payment.gateway_request or {}
            return cls(stored["version"], stored["made"], stored["params"])
        except KeyError:
            raise Unknown("the charge has no stored request", again=False) from None

    @property
    def session_ends_at(self) -> int:
        """Return the time at which its session ends, in seconds since 1970, UTC."""
        return int(self.params["expires_at"])

    def is_repeatable(self) -> bool:
        """Return whether the provider still accepts it and still remembers its key."""
        return time() < self.session_ends_at - LEAST_AHEAD

    def is_fenced(self) -> bool:
        """Return whether it can never create a session any more, however late it arrives."""
        return time() > self.session_ends_at - LEAST_AHEAD + SLACK

    def is_long_fenced(self) -> bool:
        """Return whether the charge must not wait any longer for a search of the provider's list.

        Nobody was given the page of a session whose id was never recorded, so it takes no money. The search matters
        only if the database was restored to a time before the id was recorded.
        """
        return time() > self.session_ends_at - LEAST_AHEAD + SLACK + SEARCH_LIMIT


def prepare(payment: HostedPayment, *, version: str, live: bool, window: float, shop_id: str = "") -> dict[str, Any]:
    """Return the complete request.

    `window` is the number of seconds that the shopper has to pay. The session lives longer; we end it ourselves.
    Raises NotPayable.
    """
    currencies.check(payment.amount, payment.currency)
    if live and not payment.return_url.startswith("https://"):
        raise NotPayable("insecure")
    now = int(time())
    ends_at = now + int(window) + LEAST_AHEAD + SLACK
    return {"version": version, "made": now, "params": _params(payment, ends_at, shop_id)}


def _params(payment: HostedPayment, ends_at: int, shop_id: str) -> dict[str, Any]:
    metadata = {KEY: payment.key, ORDER: payment.order_random_id, SHOP_ID: shop_id}
    params = {
        "mode": "payment",
        # Cards and wallets that hold cards; no method that settles days later.
        "allowed_payment_method_types": ["card"],
        # The price stays in the shop's currency, as the form showed it.
        "adaptive_pricing": {"enabled": False},
        "client_reference_id": payment.key,
        "metadata": metadata,
        "payment_intent_data": {"metadata": metadata, "description": f"Order {payment.order_id}"},
        "line_items": _line_items(payment),
        "success_url": payment.return_url,
        "cancel_url": payment.return_url,
        "expires_at": ends_at,
    }
    # The provider refuses addresses with non-ASCII characters, although they are valid. The shopper can enter one
    # on its page.
    return params | ({"customer_email": payment.email} if payment.email.isascii() else {})


def _line_items(payment: HostedPayment) -> list[dict[str, Any]]:
    """Return the order's lines, or the whole order as one line if the lines would not add up to the amount there."""
    items = [(line.name, line.quantity, line.price) for line in payment.lines]
    payable = all(currencies.can_express(price, payment.currency) for _, _, price in items)
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
