"""Refunds at the bank: keys of their own, never more than the charge in sum."""

from typing import Any

from sqlalchemy import Connection, Engine, Row, select, update

from sandbox_bank.asked import KeyReused, RefundAsked
from sandbox_bank.charges import record_movement
from sandbox_bank.storage import Status, charges, insert_into, reading, refunds

Refund = Row[Any]


def refund(engine: Engine, asked: RefundAsked) -> Refund:
    """Give the money back once, or say why not. Raises KeyReused where another request took the key."""
    with engine.begin() as tx:
        claim = insert_into(tx, refunds).values(**asked.columns(), status=Status.DECLINED)
        claimed = tx.execute(claim.on_conflict_do_nothing().returning(refunds.c.key)).one_or_none()
        if claimed:
            _decide(tx, asked)
        row = tx.execute(select(refunds).where(refunds.c.key == asked.key)).one()
        if (row.charge, row.amount, row.currency) != (asked.charge, asked.amount, asked.currency):
            raise KeyReused
    return row


def find(engine: Engine, key: str) -> Refund | None:
    """The refund under this key, if the bank ever heard of it."""
    with reading(engine) as look:
        return look.execute(select(refunds).where(refunds.c.key == key)).one_or_none()


def _decide(tx: Connection, asked: RefundAsked) -> None:
    """The charge gives what it still has: one conditional UPDATE, so that of two at once the sum holds."""
    reserve = update(charges).where(
        charges.c.key == asked.charge,
        charges.c.status == Status.SUCCEEDED,
        charges.c.currency == asked.currency,
        charges.c.refunded + asked.amount <= charges.c.amount,
    )
    reserved = tx.execute(reserve.values(refunded=charges.c.refunded + asked.amount)).rowcount == 1
    if reserved:
        record_movement(tx, asked.key, "refund", asked.amount, asked.currency)
        outcome = {"status": Status.SUCCEEDED.value}
    else:
        outcome = {"status": Status.DECLINED.value, "reason": _why_not(tx, asked)}
    tx.execute(update(refunds).where(refunds.c.key == asked.key).values(**outcome))


def _why_not(tx: Connection, asked: RefundAsked) -> str:
    charge = tx.execute(select(charges).where(charges.c.key == asked.charge)).one_or_none()
    if charge is None or charge.status != Status.SUCCEEDED:
        return "nothing_was_taken"
    return "other_currency" if charge.currency != asked.currency else "more_than_is_left"
