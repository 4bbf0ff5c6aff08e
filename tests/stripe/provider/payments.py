"""Sessions and what is paid on their page."""

from typing import Any

from tests.stripe.provider.state import APPROVES, ASKS, DECLINES, Object, State, invalid

KNOWN = {
    "mode", "allowed_payment_method_types", "adaptive_pricing", "client_reference_id", "metadata",
    "payment_intent_data", "line_items", "success_url", "cancel_url", "expires_at", "customer_email",
}  # fmt: skip
LEAST = {"eur": 50, "usd": 50, "gbp": 30, "jpy": 50, "isk": 6000}


def check(state: State, params: Any) -> None:
    """What the provider refuses before it begins."""
    if unknown := set(params) - KNOWN:
        raise invalid("parameter_unknown", f"Received unknown parameter: {unknown.pop()}")
    if params.get("mode") != "payment" or params.get("allowed_payment_method_types") != ["card"]:
        raise invalid("parameter_invalid_string", "this stand-in takes card payments only")
    ahead = int(params["expires_at"]) - state.now()
    if not 30 * 60 <= ahead <= 24 * 3600:
        raise invalid(None, "The `expires_at` timestamp must be between 30 minutes and 24 hours from creation.")
    if not params.get("customer_email", "a@b.c").isascii():
        raise invalid("email_invalid", "Invalid email address")
    if total(params) < LEAST.get(currency(params), 1):
        raise invalid("amount_too_small", "The total amount due is too small")


def currency(params: Any) -> str:
    found = {item["price_data"]["currency"] for item in params["line_items"]}
    if len(found) != 1 or found != {code.lower() for code in found}:
        raise invalid("currency_invalid", "one currency, in small letters")
    return str(found.pop())


def total(params: Any) -> int:
    return sum(int(item["quantity"]) * int(item["price_data"]["unit_amount"]) for item in params["line_items"])


def create(state: State, params: Any) -> Object:
    amount, session = total(params), state.name("cs_test")
    made = {
        "id": session, "object": "checkout.session", "amount_subtotal": amount, "amount_total": amount,
        "cancel_url": params.get("cancel_url"), "client_reference_id": params.get("client_reference_id"),
        "created": state.now(), "currency": currency(params), "customer_email": params.get("customer_email"),
        "expires_at": int(params["expires_at"]), "livemode": False, "metadata": params.get("metadata") or {},
        "mode": "payment", "payment_intent": None, "payment_method_types": ["card"], "payment_status": "unpaid",
        "status": "open", "success_url": params["success_url"], "url": f"{state.origin}/c/pay/{session}",
    }  # fmt: skip
    state.sessions[session] = made
    data = params.get("payment_intent_data") or {}
    state.intents["data of " + session] = {"metadata": data.get("metadata") or {}}
    return made


def expire(state: State, session: Object) -> Object:
    if session["status"] != "open":
        raise invalid(None, f"Only open sessions can be expired. This one is {session['status']}.", kept=True)
    state.end(session)
    return session


def pay(state: State, session: Object, number: str) -> str:
    """A card on the page: "paid", "declined" (the page stays), "asks" (3-D Secure), or "over"."""
    with state.lock:
        state.age()
        if session["status"] != "open":
            return "over"
        intent = _intent(state, session)
        if number == ASKS:
            intent["status"] = "requires_action"
            return "asks"
        return _take(state, session, intent) if number == APPROVES else _decline(state, session, intent)


def authenticate(state: State, session: Object, confirmed: bool) -> str:
    """The shopper's answer to 3-D Secure."""
    with state.lock:
        state.age()
        if session["status"] != "open":
            return "over"
        return pay(state, session, APPROVES if confirmed else DECLINES)


def _intent(state: State, session: Object) -> Object:
    if session["payment_intent"]:
        return state.intents[session["payment_intent"]]
    metadata = state.intents.pop("data of " + session["id"])["metadata"]
    intent = {
        "id": state.name("pi"), "object": "payment_intent", "amount": session["amount_total"], "created": state.now(),
        "currency": session["currency"], "livemode": False, "metadata": metadata, "status": "requires_payment_method",
    }  # fmt: skip
    state.intents[intent["id"]] = intent
    session["payment_intent"] = intent["id"]
    return intent


def _charge(state: State, intent: Object, paid: bool) -> Object:
    charge = {
        "id": state.name("ch"), "object": "charge", "amount": intent["amount"], "amount_refunded": 0,
        "amount_captured": intent["amount"] if paid else 0, "captured": paid, "created": state.now(),
        "currency": intent["currency"], "livemode": False, "metadata": dict(intent["metadata"]), "paid": paid,
        "payment_intent": intent["id"], "refunded": False, "status": "succeeded" if paid else "failed",
    }  # fmt: skip
    state.charges[charge["id"]] = charge
    return charge


def _take(state: State, session: Object, intent: Object) -> str:
    intent["status"] = "succeeded"
    session.update(status="complete", payment_status="paid", url=None)
    state.tell("charge.succeeded", _charge(state, intent, True))
    state.tell("payment_intent.succeeded", intent)
    state.tell("checkout.session.completed", session)
    return "paid"


def _decline(state: State, session: Object, intent: Object) -> str:
    intent["status"] = "requires_payment_method"
    state.tell("charge.failed", _charge(state, intent, False))
    state.tell("payment_intent.payment_failed", intent)
    return "declined"


def refund(state: State, params: Any) -> Object:
    charge = next(
        each for each in state.charges.values() if each["payment_intent"] == params["payment_intent"] and each["paid"]
    )
    left = charge["amount_captured"] - charge["amount_refunded"]
    amount = int(params.get("amount", left))
    if left == 0:
        raise invalid("charge_already_refunded", "Charge has already been refunded.", kept=True)
    if amount > left:
        raise invalid(None, "Refund amount is greater than unrefunded amount on charge", kept=True)
    made = {
        "id": state.name("re"), "object": "refund", "amount": amount, "charge": charge["id"], "created": state.now(),
        "currency": charge["currency"], "metadata": params.get("metadata") or {}, "status": state.refund_status,
        "payment_intent": charge["payment_intent"], "reason": None, "failure_reason": None,
    }  # fmt: skip
    state.refunds[made["id"]] = made
    if made["status"] in {"succeeded", "pending"}:
        charge["amount_refunded"] += amount
        charge["refunded"] = charge["amount_refunded"] == charge["amount_captured"]
    else:
        made["failure_reason"] = "lost_or_stolen_card"
    state.tell("refund.created", made)
    state.tell("charge.refunded", charge)
    return made


def dispute(state: State, charge: Object) -> Object:
    """The cardholder's bank takes the money back, for now."""
    made = {
        "id": state.name("du"), "object": "dispute", "amount": charge["amount"], "charge": charge["id"],
        "created": state.now(), "currency": charge["currency"], "livemode": False, "metadata": {},
        "payment_intent": charge["payment_intent"], "reason": "fraudulent", "status": "needs_response",
    }  # fmt: skip
    state.tell("charge.dispute.created", made)
    return made
