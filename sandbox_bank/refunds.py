"""Refunds at the bank. Each refund has a key of its own, and all refunds together never exceed the charge."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Row, and_, select, update

from sandbox_bank.charges import of_key, record_movement
from sandbox_bank.requests import BankRefundRequest, KeyReused
from sandbox_bank.storage import Status, charges, insert_into, reading, refunds

Refund = Row[Any]


def refund(engine: Engine, account: str, request: BankRefundRequest) -> Refund:
    """Give the money back or decline, once per key. Raises KeyReused if another request used the key."""
    with engine.begin() as tx:
        claim = insert_into(tx, refunds).values(account=account, **request.columns(), status=Status.DECLINED)
        claimed = tx.execute(claim.on_conflict_do_nothing().returning(refunds.c.key)).one_or_none()
        if claimed:
            _decide(tx, account, request)
        row = tx.execute(select(refunds).where(_of_key(account, request.key))).one()
        if (row.charge, row.amount, row.currency) != (request.charge_key, request.amount, request.currency):
            raise KeyReused
    return row


def find(engine: Engine, account: str, key: str) -> Refund | None:
    """Return the refund with this key, or None."""
    with reading(engine) as tx:
        return tx.execute(select(refunds).where(_of_key(account, key))).one_or_none()


def _of_key(account: str, key: str) -> ColumnElement[bool]:
    return and_(refunds.c.account == account, refunds.c.key == key)


def _decide(tx: Connection, account: str, request: BankRefundRequest) -> None:
    """Reserve the amount on the charge with one conditional UPDATE, so that simultaneous refunds can't exceed it."""
    reserve = update(charges).where(
        of_key(account, request.charge_key),
        charges.c.status == Status.SUCCEEDED,
        charges.c.currency == request.currency,
        charges.c.refunded + request.amount <= charges.c.amount,
    )
    reserved = tx.execute(reserve.values(refunded=charges.c.refunded + request.amount)).rowcount == 1
    if reserved:
        record_movement(tx, account=account, kind="refund", **request.columns())
        outcome = {"status": Status.SUCCEEDED.value}
    else:
        outcome = {"status": Status.DECLINED.value, "reason": _decline_reason(tx, account, request)}
    tx.execute(update(refunds).where(_of_key(account, request.key)).values(**outcome))


def _decline_reason(tx: Connection, account: str, request: BankRefundRequest) -> str:
    charge = tx.execute(select(charges).where(of_key(account, request.charge_key))).one_or_none()
    if charge is None or charge.status != Status.SUCCEEDED:
        return "nothing_was_taken"
    return "other_currency" if charge.currency != request.currency else "more_than_is_left"
