"""The checks of `verify` that move money on the test account: payments, refunds and a dispute, with test cards.

A Checkout Session can't be paid through the API. So these payments are made directly, with the metadata that a session
gives its payment; what follows from a payment is the same.
"""

from collections.abc import Callable
from itertools import islice
from typing import Any
from uuid import uuid4

from app.gateways.base import Answer, Deadline, Outcome, Payment, RefundRequest
from app.gateways.stripe import currencies, disputes, events, refunds
from app.gateways.stripe.answers import ask
from app.gateways.stripe.gateway import StripeGateway
from app.gateways.stripe.lists import items
from app.gateways.stripe.requests import KEY, SHOP_ID

AMOUNT = 20_000
"""In minor units. It is valid in every currency: above the least, below the most, and without a third decimal place."""

PATIENCE = 15.0
"""Seconds in which a new object must appear in a list."""

LATE = 180.0
"""Seconds in which a refund that fails later must have failed, and a dispute must have begun."""

SHOP = "verify"
NEWEST = 200
ENDPOINT = "/webhooks/stripe"
NEEDED = {kind for kind in events.SUBJECTS if ".async_payment_" not in kind}
"""The events that docs/go-live-with-stripe.md names. No payment method that settles days later is offered."""


class Unexpected(Exception):
    """Stripe does not do what the gateway was written for."""


class Payments:
    """Payments with test cards. Each public method is a check, which raises Unexpected, NotSent or Unknown."""

    def __init__(self, gateway: StripeGateway, currency: str) -> None:
        self.gateway, self.client, self.currency = gateway, gateway._client, currency

    def in_the_statement(self) -> None:
        """Pay. The statement must contain the payment under our key and SHOP_ID, with its amount."""
        key, _ = self._pay("pm_card_visa")
        found = self._wait(PATIENCE, "the payment is not in the statement", lambda: self._entry(key))
        if (found.kind, found.amount, found.currency, found.shop_id) != ("charge", AMOUNT, self.currency, SHOP):
            raise Unexpected(f"the statement has {found}")

    def refunded_once(self) -> None:
        """Make a refund twice under one key and look it up. All three must be the same refund."""
        key, intent_id = self._pay("pm_card_visa")
        request = self._request(key, AMOUNT // 2)
        first = refunds.make(self.client, request, intent_id, SHOP)
        again = refunds.make(self.client, request, intent_id, SHOP)
        found = self._wait(
            PATIENCE, "the refund is not in the list", lambda: refunds.find(self.client, request, intent_id)
        )
        if not first == again == found or first.outcome is not Outcome.SUCCEEDED:
            raise Unexpected(f"{first}, {again}, {found}")

    def refund_refused(self) -> None:
        """Refund a payment in full, and then again under another key, which must be refused with a known code."""
        key, intent_id = self._pay("pm_card_visa")
        for expected in (Outcome.SUCCEEDED, Outcome.DECLINED):
            answer = refunds.make(self.client, self._request(key, AMOUNT), intent_id, SHOP)
            if answer.outcome is not expected or (
                expected is Outcome.DECLINED and answer.reason not in refunds.REFUSED
            ):
                raise Unexpected(f"{answer.outcome} {answer.reason}")

    def refund_fails_later(self) -> None:
        """Refund a card whose refunds fail later. The refund must be reported as failed in the end."""
        key, intent_id = self._pay("pm_card_refundFail")
        request = self._request(key, AMOUNT)
        refunds.make(self.client, request, intent_id, SHOP)

        def failed() -> Answer | None:
            answer = refunds.find(self.client, request, intent_id)
            return answer if answer and answer.outcome is Outcome.DECLINED else None

        self._wait(LATE, "the refund has not failed yet", failed)

    def disputed(self) -> None:
        """Pay with a card that is disputed at once. The dispute must withdraw the amount."""
        _, intent_id = self._pay("pm_card_createDispute")
        (found,) = self._wait(
            LATE, "there is no dispute yet", lambda: disputes.of_payment(self.client, intent_id) or None
        )
        if (found.status, found.amount, found.withdrawn) != ("open", AMOUNT, True):
            raise Unexpected(f"{found}")

    def events_wanted(self) -> None:
        """Print the events of each webhook endpoint for PayOnce. One that lacks an event fails the check."""
        for endpoint in items(self.client.webhook_endpoints.list, {}):
            if not str(endpoint["url"]).endswith(ENDPOINT) or endpoint.get("status") != "enabled":
                continue
            enabled = set(endpoint["enabled_events"])
            print(f"        {endpoint['url']}: {', '.join(sorted(enabled))}")
            if "*" not in enabled and (missing := NEEDED - enabled):
                raise Unexpected(f"{endpoint['url']} does not receive {', '.join(sorted(missing))}")

    def _pay(self, method: str) -> tuple[str, str]:
        """Pay with a test card. Return our key and the provider's id of the payment."""
        key = str(uuid4())
        params: Any = {
            "amount": currencies.to_provider(AMOUNT, self.currency), "currency": self.currency.lower(),
            "confirm": True, "payment_method": method, "payment_method_types": ["card"],
            "metadata": {KEY: key, SHOP_ID: SHOP},
        }  # fmt: skip
        intent = ask(lambda: self.client.payment_intents.create(params, {"idempotency_key": key}))
        if intent["status"] != "succeeded":
            raise Unexpected(f"the payment with {method} is {intent['status']}")
        return key, str(intent["id"])

    def _entry(self, key: str) -> Any:
        return next((each for each in islice(self.gateway.statement(), NEWEST) if each.key == key), None)

    def _request(self, key: str, amount: int) -> RefundRequest:
        return RefundRequest(str(uuid4()), amount, Payment(key, AMOUNT, self.currency))

    @staticmethod
    def _wait(seconds: float, otherwise: str, look: Callable[[], Any]) -> Any:
        """Return what `look` finds within `seconds`. Raises Unexpected."""
        deadline = Deadline(seconds)
        while (found := look()) is None:
            if not deadline.pause(1.0):
                raise Unexpected(otherwise)
        return found
