"""The provider's events: check the signature and the age, and read only what they are about.

The present state does not come from the event: the shop asks the gateway for it.
"""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import stripe

from app.gateways.base import BadEvent, EventSubject, GatewayEvent
from app.gateways.stripe.requests import KEY

TOLERANCE = 300
"""Seconds that an event may be old. A signed event that comes later may have been recorded and sent again."""

LONGEST_SIGNATURE = 1000
"""Characters of the signature header. A genuine one has about 150, and more while several secrets are in use."""

SUBJECTS = {
    "checkout.session.completed": EventSubject.PAYMENT,
    "checkout.session.expired": EventSubject.PAYMENT,
    "checkout.session.async_payment_succeeded": EventSubject.PAYMENT,
    "checkout.session.async_payment_failed": EventSubject.PAYMENT,
    "charge.refunded": EventSubject.REFUND,
    "charge.refund.updated": EventSubject.REFUND,
    "refund.created": EventSubject.REFUND,
    "refund.updated": EventSubject.REFUND,
    "refund.failed": EventSubject.REFUND,
    "charge.dispute.created": EventSubject.DISPUTE,
    "charge.dispute.updated": EventSubject.DISPUTE,
    "charge.dispute.closed": EventSubject.DISPUTE,
    "charge.dispute.funds_withdrawn": EventSubject.DISPUTE,
    "charge.dispute.funds_reinstated": EventSubject.DISPUTE,
}


def read(body: bytes, signature: str, secrets: Iterable[str], *, live: bool) -> GatewayEvent:
    """Return the event in a signed body. Raises BadEvent. A body without a valid signature is not parsed."""
    if len(signature) > LONGEST_SIGNATURE or not any(_signed(body, signature, secret) for secret in secrets):
        raise BadEvent("not signed by the provider")
    try:
        event = json.loads(body)
        return _event(event, event["data"]["object"], live)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise BadEvent(f"unreadable: {type(error).__name__}") from None


def _signed(body: bytes, signature: str, secret: str) -> bool:
    try:
        return bool(stripe.WebhookSignature.verify_header(body, signature, secret, TOLERANCE))
    except (stripe.SignatureVerificationError, ValueError, TypeError):
        return False


def _event(event: Any, about: Any, live: bool) -> GatewayEvent:
    kind = str(event["type"])
    subject = SUBJECTS.get(kind, EventSubject.OTHER) if event["livemode"] is live else EventSubject.OTHER
    return GatewayEvent(
        id=_name(event["id"]), kind=_name(kind), subject=subject, at=datetime.fromtimestamp(event["created"], UTC),
        key=_text((about.get("metadata") or {}).get(KEY)), gateway_reference=_reference(about),
        text=_dispute(about) if subject is EventSubject.DISPUTE else None,
    )  # fmt: skip


def _reference(about: Any) -> str | None:
    """Return the id of the session if the object is one, else the id of its payment."""
    if about.get("object") == "checkout.session":
        return _text(about["id"])
    return _text(about.get("payment_intent"))


def _dispute(about: Any) -> str:
    return f"dispute {_text(about.get('status'))}, reason {_text(about.get('reason'))}"[:200]


def _text(value: object) -> str | None:
    return value[:255] if isinstance(value, str) else None


def _name(value: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 255 or not value.isprintable():
        raise ValueError("not a name")
    return value
