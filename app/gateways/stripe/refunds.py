"""The provider's refunds of one payment, which is named by its `intent_id`."""

from typing import Any
from uuid import UUID, uuid5

from app.gateways.base import Answer, GatewayRefund, Outcome, RefundRequest
from app.gateways.stripe import answers, currencies
from app.gateways.stripe.answers import ErrorAnswer, ask
from app.gateways.stripe.lists import items, our_key
from app.gateways.stripe.requests import KEY, REFUND_KEY, SHOP_ID

REFUSED = frozenset(
    {"charge_already_refunded", "charge_disputed", "charge_not_refundable", "refund_disputed_payment",
     "balance_insufficient"}
)  # fmt: skip
"""Codes of errors that end a refund. The provider stores such an answer for the key, so repeating can't help."""

REFUND_NAMESPACE = UUID("7b2f6d0e-3f0a-5f0e-9d6c-0f6c2a9d8b11")
"""The namespace of keys for refunds that were made by hand. They have no key of ours, so it is made from their id."""


def make(client: Any, refund_request: RefundRequest, intent_id: str, shop_id: str) -> Answer:
    """Give money back, once per key. Raises Unknown if the provider refuses for a reason that may pass."""
    try:
        refund = ask(lambda: client.refunds.create(*_params(refund_request, intent_id, shop_id)))
    except ErrorAnswer as error:
        return _explain(client, refund_request, intent_id, error)
    return answers.of_refund(refund, refund_request)


def find(client: Any, refund_request: RefundRequest, intent_id: str) -> Answer | None:
    """Return what became of our key, or None if the payment has no such refund."""
    found = (each for each in _all(client, intent_id) if our_key(each, REFUND_KEY) == refund_request.key)
    refund = next(found, None)
    return None if refund is None else answers.of_refund(refund, refund_request)


def of_payment(client: Any, intent_id: str) -> list[GatewayRefund]:
    """Return every refund of the payment."""
    return [_gateway_refund(refund) for refund in _all(client, intent_id)]


def key_of(refund: Any) -> str:
    """Return our key of a refund, or the one that is made from its id."""
    return our_key(refund, REFUND_KEY) or str(uuid5(REFUND_NAMESPACE, str(refund["id"])))


def _explain(client: Any, refund_request: RefundRequest, intent_id: str, error: ErrorAnswer) -> Answer:
    """Return the refund's outcome after an error. An earlier try under this key may have made the refund.

    Raises the error if it says nothing about the outcome.
    """
    if error.status not in (400, 402) or error.code == "idempotency_error":
        raise error
    if found := find(client, refund_request, intent_id):
        return found
    if error.code in REFUSED:
        return Answer(Outcome.DECLINED, reason=error.code, message=error.message, request_id=error.request_id)
    if _left(client, intent_id) < currencies.to_provider(refund_request.amount, refund_request.payment.currency):
        return Answer(Outcome.DECLINED, reason="not_enough_left", message=error.message, request_id=error.request_id)
    raise error


def _all(client: Any, intent_id: str) -> Any:
    return items(client.refunds.list, {"payment_intent": intent_id})


def _left(client: Any, intent_id: str) -> int:
    """Return the amount that can still be refunded, in the provider's units."""
    charges = items(client.charges.list, {"payment_intent": intent_id})
    return sum(each["amount_captured"] - each["amount_refunded"] for each in charges if each.get("paid"))


def _params(refund_request: RefundRequest, intent_id: str, shop_id: str) -> tuple[Any, Any]:
    """Return the parameters and the options of the request that makes the refund."""
    payment = refund_request.payment
    params = {
        "payment_intent": intent_id,
        "amount": currencies.to_provider(refund_request.amount, payment.currency),
        "metadata": {KEY: payment.key, REFUND_KEY: refund_request.key, SHOP_ID: shop_id},
    }
    return params, {"idempotency_key": refund_request.key}


def _gateway_refund(refund: Any) -> GatewayRefund:
    outcome = answers.outcome_of_refund(refund)
    return GatewayRefund(
        key=key_of(refund), amount=currencies.from_provider(refund["amount"], str(refund["currency"]).upper()),
        gateway_reference=answers.id_of(refund), ours=our_key(refund, REFUND_KEY) is not None, outcome=outcome,
        reason=answers.reason_of_refund(refund) if outcome is Outcome.DECLINED else None,
    )  # fmt: skip
