"""The provider's disputes. Its balance transactions say which money a dispute has moved."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from app.gateways.base import GatewayDispute
from app.gateways.stripe import answers, currencies
from app.gateways.stripe.lists import items

STATUSES: dict[str, Literal["won", "lost"]] = {
    "won": "won", "warning_closed": "won", "prevented": "won", "lost": "lost",
}  # fmt: skip
"""The final statuses. An inquiry (warning_…) moves no money; every other status is open."""


class Movement(NamedTuple):
    """One movement of money that a dispute made. `amount` is in minor units, `at` in UTC."""

    kind: Literal["dispute", "dispute_reversed", "fee"]
    amount: int
    currency: str
    at: datetime


def of_payment(client: Any, intent_id: str) -> list[GatewayDispute]:
    """Return every dispute of the payment."""
    found = items(client.disputes.list, {"payment_intent": intent_id})
    return [_gateway_dispute(dispute) for dispute in found]


def movements(dispute: Any) -> Iterator[Movement]:
    """Yield what the dispute moved: the amount that was withdrawn, its fee, and the amount that was reinstated.

    Amounts are in the currency of the charge. If the account is settled in another one, fees can't be expressed in it.
    """
    currency = str(dispute["currency"]).upper()
    amount = currencies.from_provider(dispute["amount"], currency)
    for transaction in dispute.get("balance_transactions") or ():
        at = datetime.fromtimestamp(transaction["created"], UTC)
        yield Movement("dispute" if transaction["amount"] < 0 else "dispute_reversed", amount, currency, at)
        if transaction["fee"] > 0 and str(transaction["currency"]).upper() == currency:
            yield Movement("fee", currencies.from_provider(transaction["fee"], currency), currency, at)


def _gateway_dispute(dispute: Any) -> GatewayDispute:
    moved = list(movements(dispute))
    kinds = {movement.kind for movement in moved}
    due_by = (dispute.get("evidence_details") or {}).get("due_by")
    return GatewayDispute(
        gateway_reference=answers.id_of(dispute), status=STATUSES.get(str(dispute.get("status")), "open"),
        amount=currencies.from_provider(dispute["amount"], str(dispute["currency"]).upper()),
        withdrawn="dispute" in kinds, reinstated="dispute_reversed" in kinds,
        fee=sum(movement.amount for movement in moved if movement.kind == "fee"),
        reason=answers.as_code(dispute.get("reason")),
        evidence_due_at=datetime.fromtimestamp(due_by, UTC) if due_by else None,
    )  # fmt: skip
