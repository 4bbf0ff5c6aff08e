"""What is asked of the gateway: sales, and the payments they become at the claim."""

from dataclasses import replace
from uuid import uuid4

from app.gateways.base import HostedPayment, Payment, PaymentLine
from app.gateways.stripe.gateway import StripeGateway

CREATE = "POST /v1/checkout/sessions"
LIST = "GET /v1/checkout/sessions"
WINDOW = 3600.0


def sale(**changes: object) -> HostedPayment:
    given = {
        "key": str(uuid4()), "amount": 4800, "currency": "EUR", "order_id": 7,
        "order_random_id": str(uuid4()), "email": "ada@example.org",
        "return_url": "http://127.0.0.1:8000/receipts/1", "lines": [PaymentLine("Morning mug", 2, 2400)],
    }  # fmt: skip
    return HostedPayment(**(given | changes))  # type: ignore[arg-type]


def payment(gateway: StripeGateway, **changes: object) -> Payment:
    """A payment as it is stored at the claim."""
    sold = sale(**changes)
    return Payment(sold.key, sold.amount, sold.currency, sold.return_url, gateway_request=gateway.prepare(sold))


def charged(gateway: StripeGateway, made: Payment) -> Payment:
    """The session made, and its id learnt."""
    return replace(made, gateway_reference=gateway.charge(made, None, 5).gateway_reference)
