"""Sales, and the payments that are stored for them at the claim."""

from dataclasses import replace
from uuid import uuid4

from app.gateways.base import HostedPayment, Payment, PaymentLine
from app.gateways.stripe.gateway import StripeGateway

CREATE = "POST /v1/checkout/sessions"
LIST = "GET /v1/checkout/sessions"
WINDOW = 3600.0


def sale(**changes: object) -> HostedPayment:
    """Return two mugs for €48.00, under a new key."""
    fields = {
        "key": str(uuid4()), "amount": 4800, "currency": "EUR", "order_id": 7,
        "order_random_id": str(uuid4()), "email": "ada@example.org",
        "return_url": "http://127.0.0.1:8000/receipts/1", "lines": [PaymentLine("Morning mug", 2, 2400)],
    }  # fmt: skip
    return HostedPayment(**(fields | changes))  # type: ignore[arg-type]


def new_payment(gateway: StripeGateway, **changes: object) -> Payment:
    """Return the payment of a new sale as it is stored at the claim."""
    sold = sale(**changes)
    return Payment(sold.key, sold.amount, sold.currency, sold.return_url, gateway_request=gateway.prepare(sold))


def charged(gateway: StripeGateway, payment: Payment) -> Payment:
    """Create the payment's session. Return the payment with the session's id."""
    return replace(payment, gateway_reference=gateway.charge(payment, None, 5).gateway_reference)
