"""Stray payments: the gateway took money for a charge that had already ended without money here."""

from uuid import uuid5

from sqlalchemy.engine import Connection

from app.charges import refunds
from app.charges.rows import ChargeSnapshot
from app.ledger import book


def claim(connection: Connection, charge: ChargeSnapshot) -> bool:
    """Record the stray payment and a refund for it. Return False if that was done before. Idempotent per charge.

    The refund's key is derived from the charge's. So if the database goes back to an earlier moment and the stray
    payment is found again, the gateway still gives the money back once.
    """
    if not refunds.insert(connection, charge, uuid5(charge.key, "stray"), charge.amount, stray=True, ask_in=0):
        return False
    book.post(connection, charge.id, charge.amount, charge.currency, kind=book.Kind.CHARGE, account=book.UNEXPECTED)
    return True
