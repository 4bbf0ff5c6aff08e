"""The provider's statement: every movement of money on the account, newest first within each kind."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from app.gateways.base import StatementEntry
from app.gateways.stripe import currencies, disputes, refunds
from app.gateways.stripe.lists import items, our_key
from app.gateways.stripe.requests import KEY, SHOP_ID


def entries(client: Any) -> Iterator[StatementEntry]:
    """Yield charges, refunds, refunds that came back, and what disputes moved. Raises NotSent or Unknown."""
    disputed: dict[str, str] = {}
    for charge in items(client.charges.list, {}):
        if charge.get("paid") and charge.get("captured"):
            key = our_key(charge, KEY) or str(charge["id"])
            if charge.get("disputed"):
                disputed[str(charge["id"])] = key
            yield _entry(key, "charge", charge, charge["amount_captured"])
    for refund in items(client.refunds.list, {}):
        came_back = bool(refund.get("failure_balance_transaction"))
        if came_back or refund.get("status") == "succeeded":
            yield _entry(refunds.key_of(refund), "refund", refund, refund["amount"])
        if came_back:
            yield _entry(refunds.key_of(refund), "refund_failed", refund, refund["amount"])
    for dispute in items(client.disputes.list, {}):
        key = disputed.get(str(dispute["charge"]), str(dispute["charge"]))
        for kind, amount, currency, at in disputes.movements(dispute):
            yield StatementEntry(
                key, kind, amount, currency, at,
                payment_reference=dispute.get("payment_intent"), gateway_reference=str(dispute["id"]),
            )  # fmt: skip


def _entry(key: str, kind: str, fields: Any, amount: int) -> StatementEntry:
    currency = str(fields["currency"]).upper()
    at = datetime.fromtimestamp(fields["created"], UTC)
    return StatementEntry(
        key, kind, currencies.from_provider(amount, currency), currency, at, shop_id=our_key(fields, SHOP_ID) or None,
        payment_reference=fields.get("payment_intent"), gateway_reference=str(fields["id"]),
    )  # fmt: skip
