"""Disputes through their whole life: opened (perhaps as an inquiry), funds withdrawn, won (reinstated) or lost."""

from tests.stripe.provider import shapes
from tests.stripe.provider.state import Object, State

FEE = 1500
"""The fee of a dispute, in the provider's units."""

ANSWER_IN = 7 * 24 * 3600
"""Seconds in which the merchant must answer."""


def open_(state: State, charge: Object, *, inquiry: bool = False, amount: int | None = None) -> Object:
    """Open a dispute over the charge, or over a part of it. Unless it is an inquiry, withdraw the funds."""
    dispute = shapes.DISPUTE | {
        "id": state.new_id("du"), "object": "dispute", "amount": amount or charge["amount"], "charge": charge["id"],
        "balance_transactions": [], "created": state.now(), "currency": charge["currency"],
        "evidence_details": {
            "due_by": state.now() + ANSWER_IN, "has_evidence": False, "past_due": False, "submission_count": 0,
        },
        "is_charge_refundable": inquiry, "livemode": False, "metadata": {}, "payment_intent": charge["payment_intent"],
        "reason": "fraudulent", "status": "warning_needs_response" if inquiry else "needs_response",
    }  # fmt: skip
    state.disputes[dispute["id"]] = dispute
    charge["disputed"] = True
    state.add_event("charge.dispute.created", dispute)
    if not inquiry:
        _move(state, dispute, -dispute["amount"], FEE)
        state.add_event("charge.dispute.funds_withdrawn", dispute)
    return dispute


def close(state: State, dispute: Object, status: str) -> None:
    """End a dispute as "won", "lost" or "warning_closed". If the shop wins, the funds are reinstated."""
    dispute["status"] = status
    state.add_event("charge.dispute.closed", dispute)
    if status == "won":
        _move(state, dispute, dispute["amount"], 0)
        state.add_event("charge.dispute.funds_reinstated", dispute)


def _move(state: State, dispute: Object, amount: int, fee: int) -> None:
    dispute["balance_transactions"].append(shapes.BALANCE_TRANSACTION | {
        "id": state.new_id("txn"), "object": "balance_transaction", "amount": amount, "available_on": state.now(),
        "created": state.now(), "currency": dispute["currency"], "description": None, "exchange_rate": None,
        "fee": fee, "fee_details": [], "net": amount - fee, "source": dispute["id"], "status": "available",
        "reporting_category": "dispute" if amount < 0 else "dispute_reversal", "type": "adjustment",
    })  # fmt: skip
