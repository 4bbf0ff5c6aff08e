"""Postings: what a charge or a refund does to the books. Each posting sums to zero."""

from sqlalchemy import insert
from sqlalchemy.engine import Connection

from app.database import table
from app.ledger.models import Entry

SALES = "sales"
UNEXPECTED = "unexpected"
"""Money that a charge took although it had ended without: owed back to the shopper until its refund."""

POST = insert(table(Entry))


def post(
    connection: Connection, charge: int, amount: int, currency: str, *, account: str = SALES, refund: int | None = None
) -> None:
    """Money arrived (`amount` > 0) or went back (`amount` < 0), in minor units: debit the gateway, credit `account`.

    A unique index refuses a second posting for the same charge or refund (IntegrityError).
    """
    common = {"charge_id": charge, "refund_id": refund, "currency": currency}
    connection.execute(
        POST, [{**common, "account": "gateway", "amount": amount}, {**common, "account": account, "amount": -amount}]
    )
