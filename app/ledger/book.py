"""Postings: what a charge or refund does to the ledger. Each posting sums to zero."""

from sqlalchemy import insert
from sqlalchemy.engine import Connection

from app.database import table
from app.ledger.models import LedgerEntry

SALES = "sales"
UNEXPECTED = "unexpected"
"""The account of stray payments: money that is owed back to shoppers."""

POST = insert(table(LedgerEntry))


def post(
    connection: Connection, charge_id: int, amount: int, currency: str, *, account: str = SALES,
    refund_id: int | None = None,
) -> None:  # fmt: skip
    """Post money that arrived (`amount` > 0) or went back (`amount` < 0), in minor units: gateway against `account`.

    Raises IntegrityError if the charge or refund has been posted before.
    """
    common = {"charge_id": charge_id, "refund_id": refund_id, "currency": currency}
    connection.execute(
        POST, [{**common, "account": "gateway", "amount": amount}, {**common, "account": account, "amount": -amount}]
    )
