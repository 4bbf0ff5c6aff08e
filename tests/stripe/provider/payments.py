"""Checkout sessions, and payments on their page."""

from typing import Any

from tests.stripe.provider import disputes, shapes
from tests.stripe.provider.state import APPROVES, ASKS, DECLINES, Object, State, invalid

KNOWN = {
    "mode", "allowed_payment_method_types", "adaptive_pricing", "client_reference_id", "metadata",
    "payment_intent_data", "line_items", "success_url", "cancel_url", "expires_at", "customer_email",
}  # fmt: skip
ITEM = {"quantity", "price_data"}
PRICE = {"currency", "unit_amount", "product_data"}
LEAST = {"eur": 50, "usd": 50, "gbp": 30, "jpy": 50, "isk": 6000}


def check(state: State, params: Any) -> None:
    """Raise Refusal if Stripe would refuse the parameters before it creates a session."""
    for value, known in ((params, KNOWN), *((item, ITEM) for item in params["line_items"])):
        if unknown := set(value) - known:
            raise invalid("parameter_unknown", f"Received unknown parameter: {unknown.pop()}")
    _check_sizes(params)
    if params.get("mode") != "payment" or params.get("allowed_payment_method_types") != ["card"]:
        raise invalid("parameter_invalid_string", "this stand-in accepts card payments only")
    ahead = int(params["expires_at"]) - state.now()
    if not 30 * 60 <= ahead <= 24 * 3600:
        raise invalid(None, "The `expires_at` timestamp must be between 30 minutes and 24 hours from creation.")
    if not params.get("customer_email", "a@b.c").isascii():
        raise invalid("email_invalid", "Invalid email address")
    if total(params) < LEAST.get(currency(params), 1):
        raise invalid("amount_too_small", "The total amount due is too small")


def _check_sizes(params: Any) -> None:
    """Raise Refusal if a text, list or number is not within the provider's limits."""
    items, prices = params["line_items"], [item["price_data"] for item in params["line_items"]]
    of_intent = params.get("payment_intent_data") or {}
    urls = [params[name] for name in ("success_url", "cancel_url") if name in params]
    limits = (
        (1 <= len(items) <= 100, "line_items"),
        (all(set(price) == PRICE for price in prices), "line_items[price_data]"),
        (all(1 <= int(item["quantity"]) <= 999_999 for item in items), "line_items[quantity]"),
        (all(0 <= int(price["unit_amount"]) <= 99_999_999 for price in prices), "line_items[unit_amount]"),
        (all(1 <= len(price["product_data"]["name"]) <= 250 for price in prices), "product_data[name]"),
        (len(params.get("client_reference_id", "")) <= 200, "client_reference_id"),
        (len(of_intent.get("description", "")) <= 1000, "payment_intent_data[description]"),
        (all(url.startswith(("http://", "https://")) and len(url) <= 5000 for url in urls), "success_url"),
        (all(_fits(part.get("metadata") or {}) for part in (params, of_intent)), "metadata"),
    )
    for holds, name in limits:
        if not holds:
            raise invalid("parameter_invalid_string", f"Invalid value: {name}")


def _fits(metadata: Any) -> bool:
    """Return whether the provider stores these metadata: at most 50 names of 40 and values of 500 characters."""
    return len(metadata) <= 50 and all(len(name) <= 40 and len(value) <= 500 for name, value in metadata.items())


def currency(params: Any) -> str:
    """Return the currency of the line items. Raises Refusal if they have several, or if it is not in lower case."""
    found = {item["price_data"]["currency"] for item in params["line_items"]}
    if len(found) != 1 or found != {code.lower() for code in found}:
        raise invalid("currency_invalid", "one currency, in lower case")
    return str(found.pop())


def total(params: Any) -> int:
    """Return the sum of the line items, in the provider's units."""
    return sum(int(item["quantity"]) * int(item["price_data"]["unit_amount"]) for item in params["line_items"])


def create(state: State, params: Any) -> Object:
    """Create a session."""
    amount, session_id = total(params), state.new_id("cs_test")
    session = shapes.SESSION | {
        "id": session_id, "object": "checkout.session", "amount_subtotal": amount, "amount_total": amount,
        "cancel_url": params.get("cancel_url"), "client_reference_id": params.get("client_reference_id"),
        "created": state.now(), "currency": currency(params), "customer_email": params.get("customer_email"),
        "expires_at": int(params["expires_at"]), "livemode": False, "metadata": params.get("metadata") or {},
        "mode": "payment", "payment_intent": None, "payment_method_types": ["card"], "payment_status": "unpaid",
        "status": "open", "success_url": params["success_url"], "url": f"{state.origin}/c/pay/{session_id}",
    }  # fmt: skip
    state.sessions[session_id] = session
    data = params.get("payment_intent_data") or {}
    state.intents["data of " + session_id] = {"metadata": data.get("metadata") or {}}
    return session


def expire(state: State, session: Object) -> Object:
    """Expire an open session. Raises Refusal if it is not open."""
    if session["status"] != "open":
        raise invalid(None, f"Only open sessions can be expired. This one is {session['status']}.", stored=True)
    state.expire(session)
    return session


def pay(state: State, session: Object, number: str) -> str:
    """Pay with a card on the page.

    Return "paid", "declined" (the session stays open), "asks" (3-D Secure) or "over" (the session is not open).
    """
    with state.lock:
        state.expire_sessions()
        if session["status"] != "open":
            return "over"
        intent = _intent(state, session)
        if number == ASKS:
            intent["status"] = "requires_action"
            return "asks"
        return _take(state, session, intent) if number == APPROVES else _decline(state, session, intent)


def authenticate(state: State, session: Object, confirmed: bool) -> str:
    """Confirm or refuse on the 3-D Secure page. Return what `pay` returns."""
    with state.lock:
        state.expire_sessions()
        if session["status"] != "open":
            return "over"
        return pay(state, session, APPROVES if confirmed else DECLINES)


def _intent(state: State, session: Object) -> Object:
    if session["payment_intent"]:
        return state.intents[session["payment_intent"]]
    metadata = state.intents.pop("data of " + session["id"])["metadata"]
    intent = _new_intent(state, session["amount_total"], session["currency"], metadata)
    session["payment_intent"] = intent["id"]
    return intent


def _new_intent(state: State, amount: int, currency: str, metadata: Object) -> Object:
    intent = shapes.INTENT | {
        "id": state.new_id("pi"), "object": "payment_intent", "amount": amount, "created": state.now(),
        "currency": currency, "livemode": False, "metadata": metadata, "status": "requires_payment_method",
    }  # fmt: skip
    state.intents[intent["id"]] = intent
    return intent


def pay_directly(state: State, params: Any) -> Object:
    """Create a payment without a session and confirm it with a test card, as only a check of the account does."""
    if params.get("confirm") != "true" or params.get("payment_method_types") != ["card"]:
        raise invalid("parameter_missing", "this stand-in confirms card payments at once")
    intent = _new_intent(state, int(params["amount"]), params["currency"], params.get("metadata") or {})
    intent |= {"payment_method": params["payment_method"], "status": "succeeded"}
    charge = _charge(state, intent, True)
    if params["payment_method"] == "pm_card_createDispute":
        disputes.open_(state, charge)
    return intent


def _charge(state: State, intent: Object, paid: bool) -> Object:
    charge = shapes.CHARGE | {
        "id": state.new_id("ch"), "object": "charge", "amount": intent["amount"], "amount_refunded": 0,
        "amount_captured": intent["amount"] if paid else 0, "captured": paid, "created": state.now(),
        "currency": intent["currency"], "disputed": False, "livemode": False, "metadata": dict(intent["metadata"]),
        "paid": paid,
        "payment_intent": intent["id"], "refunded": False, "status": "succeeded" if paid else "failed",
    }  # fmt: skip
    state.charges[charge["id"]] = charge
    return charge


def _take(state: State, session: Object, intent: Object) -> str:
    intent["status"] = "succeeded"
    session.update(status="complete", payment_status="paid", url=None)
    state.add_event("charge.succeeded", _charge(state, intent, True))
    state.add_event("payment_intent.succeeded", intent)
    state.add_event("checkout.session.completed", session)
    return "paid"


def _decline(state: State, session: Object, intent: Object) -> str:
    intent["status"] = "requires_payment_method"
    state.add_event("charge.failed", _charge(state, intent, False))
    state.add_event("payment_intent.payment_failed", intent)
    return "declined"
