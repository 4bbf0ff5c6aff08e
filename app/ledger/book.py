"""Postings: what charges, refunds and disputes do to the ledger. Each posting sums to zero."""

from enum import StrEnum

from sqlalchemy import insert, select
from sqlalchemy.engine import Connection

from app.database import table
from app.ledger.models import LedgerEntry

GATEWAY = "gateway"
"""The account of the money that the gateway holds for the shop."""
SALES = "sales"
UNEXPECTED = "unexpected"
"""The account of stray payments: money that is owed back to shoppers."""
DISPUTES = "disputes"
"""The account of money that disputes have withdrawn."""
FEES = "fees"

entries = table(LedgerEntry)
POST = insert(entries)


class Kind(StrEnum):
    """Why money moved. Each kind is posted at most once per charge, refund or dispute and account."""

    CHARGE = "charge"
    REFUND = "refund"
    REFUND_FAILED = "refund_failed"
    DISPUTE = "dispute"
    DISPUTE_REVERSED = "dispute_reversed"
    FEE = "fee"


def post(
    connection: Connection, charge_id: int, amount: int, currency: str, *, kind: Kind, account: str = SALES,
    refund_id: int | None = None, dispute_id: int | None = None,
) -> None:  # fmt: skip
    """Post money that arrived (`amount` > 0) or left (`amount` < 0), in minor units: gateway against `account`.

    Raises IntegrityError if the same was posted before.
    """
    common = {
        "charge_id": charge_id, "refund_id": refund_id, "dispute_id": dispute_id,
        "kind": kind, "currency": currency,
    }  # fmt: skip
    connection.execute(
        POST, [{**common, "account": GATEWAY, "amount": amount}, {**common, "account": account, "amount": -amount}]
    )


def kinds_of_dispute(connection: Connection, dispute_id: int) -> set[str]:
    """Return the kinds that were posted for a dispute."""
    return set(connection.scalars(select(entries.c.kind).where(entries.c.dispute_id == dispute_id)))
