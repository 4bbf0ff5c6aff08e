"""Stray payments: the gateway took money for a charge that had already ended without money here.

The money is owed back until it is back. A stray payment's refund is for the whole amount, so no gateway can make two.
If one ends without money, the next is owed under a new key, because a gateway repeats its answer to the old one. The
keys are derived from the charge's: if the database goes back to an earlier moment, the same refund is found again.
"""

from uuid import UUID, uuid5

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from app.charges import refund_rows
from app.charges.refund_rows import refunds
from app.charges.rows import ChargeSnapshot
from app.ledger import book

FIRST_RETRY, LONGEST_RETRY = 3600.0, 24 * 3600.0
"""Seconds until the next refund is tried: doubled each time, from the first to the longest."""


def claim(connection: Connection, charge: ChargeSnapshot) -> bool:
    """Record the stray payment and a refund for it. Return False if that was done before. Idempotent per charge."""
    if not refund_rows.insert(connection, charge, _key(charge, 0), charge.amount, stray=True, ask_in=0):
        return False
    book.post(connection, charge.id, charge.amount, charge.currency, kind=book.Kind.CHARGE, account=book.UNEXPECTED)
    return True


def retry(connection: Connection, charge: ChargeSnapshot, reason: str) -> None:
    """Owe the next refund, in the transaction that records that the one before ended without money, and why."""
    tries = connection.scalar(select(func.count()).where(refunds.c.charge_id == charge.id, refunds.c.stray)) or 1
    refund_rows.insert(
        connection, charge, _key(charge, tries), charge.amount, stray=True,
        ask_in=min(FIRST_RETRY * 2.0 ** min(tries - 1, 10), LONGEST_RETRY),
        attention=f"the stray payment is not given back yet, after {tries} tries; the last one was {reason}",
    )  # fmt: skip


def _key(charge: ChargeSnapshot, tries: int) -> UUID:
    return uuid5(charge.key, f"refund of a stray payment, after {tries} tries")
