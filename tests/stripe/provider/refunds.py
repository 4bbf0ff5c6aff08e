"""Refunds: made by request or by hand, refused, and changing their state later."""

from typing import Any

from tests.stripe.provider import shapes
from tests.stripe.provider.state import Object, State, invalid

MOVED = frozenset({"succeeded", "pending"})
"""The statuses in which the amount is taken from the account's balance."""


def create(state: State, params: Any) -> Object:
    """Refund a payment, in full or in part. Raises Refusal if too little is left, or if the account may not."""
    charge = next(
        each for each in state.charges.values() if each["payment_intent"] == params["payment_intent"] and each["paid"]
    )
    left = charge["amount_captured"] - charge["amount_refunded"]
    amount = int(params.get("amount", left))
    _refuse(state, charge, amount, left)
    refund = shapes.REFUND | {
        "id": state.new_id("re"), "object": "refund", "amount": amount, "charge": charge["id"], "created": state.now(),
        "currency": charge["currency"], "metadata": params.get("metadata") or {}, "status": state.refund_status,
        "payment_intent": charge["payment_intent"], "reason": None, "failure_reason": None,
    }  # fmt: skip
    state.refunds[refund["id"]] = refund
    if refund["status"] in MOVED:
        refund["balance_transaction"] = state.new_id("txn")
        _add_refunded(charge, amount)
    else:
        refund["failure_reason"] = "lost_or_stolen_card"
    state.add_event("refund.created", refund)
    state.add_event("charge.refunded", charge)
    if state.intents[charge["payment_intent"]]["payment_method"] == "pm_card_refundFail":
        state.later.append(lambda: change(state, refund, "failed"))
    return refund


def _refuse(state: State, charge: Object, amount: int, left: int) -> None:
    """Raise Refusal if the refund can't be made. The answer is stored for the key, because the request had begun."""
    if any(each["charge"] == charge["id"] and _takes_money(each) for each in state.disputes.values()):
        raise invalid("charge_disputed", "Charge has been charged back; cannot issue a refund.", stored=True)
    if left == 0:
        raise invalid("charge_already_refunded", "Charge has already been refunded.", stored=True)
    if amount > left:
        raise invalid(None, "Refund amount is greater than unrefunded amount on charge", stored=True)
    if state.refund_refused_for:
        raise invalid(state.refund_refused_for, "This account can't make this refund.", stored=True)


def _takes_money(dispute: Object) -> bool:
    return dispute["status"] != "won" and not dispute["status"].startswith("warning")


def change(state: State, refund: Object, status: str) -> None:
    """Let a refund succeed, fail or be canceled later. If it fails, its amount comes back to the account's balance."""
    charge = state.charges[refund["charge"]]
    if status not in MOVED and refund["status"] in MOVED:
        refund["failure_balance_transaction"] = state.new_id("txn")
        refund["failure_reason"] = "expired_or_canceled_card"
        _add_refunded(charge, -refund["amount"])
    refund["status"] = status
    state.add_event("refund.failed" if status == "failed" else "refund.updated", refund)
    state.add_event("charge.refund.updated", refund)


def _add_refunded(charge: Object, amount: int) -> None:
    charge["amount_refunded"] += amount
    charge["refunded"] = charge["amount_refunded"] == charge["amount_captured"]
