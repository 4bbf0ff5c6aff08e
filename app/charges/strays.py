"""Stray payments: the gateway took money for a charge that had already ended without money here."""

from sqlalchemy.engine import Connection

from app.charges import refunds
from app.charges.rows import ChargeSnapshot
from app.charges.tokens import new_key
from app.ledger import book


def claim(connection: Connection, charge: ChargeSnapshot) -> bool:
    """Record the stray payment and a refund for it. Return False if that was done before. Idempotent per charge."""
    if not refunds.insert(connection, charge, new_key(), charge.amount, stray=True, ask_in=0):
        return False
    book.post(connection, charge.id, charge.amount, charge.currency, kind=book.Kind.CHARGE, account=book.UNEXPECTED)
    return True
