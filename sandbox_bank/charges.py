"""Charges at the bank. Each function is one transaction. It writes the outcome and the movement of money together.

The outcome of a key is decided once. The primary key of the charges decides between simultaneous requests.
"""

import secrets
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Row, and_, insert, select, update

from app.gateways.sandbox.cards import Behaviour
from sandbox_bank.requests import BankChargeRequest, KeyReused
from sandbox_bank.storage import OPEN, Status, charges, insert_into, movements, reading

FIRST_STATUS = {
    Behaviour.DECLINES: Status.DECLINED,
    Behaviour.INSUFFICIENT_FUNDS: Status.DECLINED,
    Behaviour.ASKS_SHOPPER: Status.REQUIRES_ACTION,
    Behaviour.FAILS_BEFORE_TAKING: Status.RECEIVED,
    Behaviour.SILENT_TAKES_NOTHING: Status.RECEIVED,
}
"""The status after the first request. All other cards succeed."""

REASON = {Behaviour.DECLINES: "card_declined", Behaviour.INSUFFICIENT_FUNDS: "insufficient_funds"}

Charge = Row[Any]

KEY = [charges.c.account, charges.c.key]


def charge(engine: Engine, account: str, request: BankChargeRequest) -> Charge:
    """Decide the outcome of the key, or return the outcome that it already has.

    Raises KeyReused if another request used the key. Then nothing changes.
    """
    with engine.begin() as tx:
        row = _insert_or_count(tx, account, request)
        if row.fingerprint is None:
            return row  # The key was fenced before any request for it arrived.
        if row.fingerprint != request.fingerprint:
            raise KeyReused
        if row.calls == 1 and row.status == Status.SUCCEEDED:
            _record_charge(tx, row)
        if row.calls > 1 and request.card.behaviour is Behaviour.FAILS_BEFORE_TAKING:
            row = _move(tx, of_key(account, row.key), Status.RECEIVED, Status.SUCCEEDED) or row
    return row


def cancel(engine: Engine, account: str, key: str) -> Charge:
    """Fence the key, known or not: if it has taken no money yet, it never will. Return the outcome that won."""
    with engine.begin() as tx:
        fence = insert_into(tx, charges).values(account=account, key=key, status=Status.CANCELED, calls=0)
        tx.execute(
            fence.on_conflict_do_update(
                index_elements=KEY,
                set_={"status": Status.CANCELED},
                where=charges.c.status.in_(OPEN),
            )
        )
        return tx.execute(select(charges).where(of_key(account, key))).one()


def decide_action(engine: Engine, action_id: str, status: Status) -> Charge | None:
    """Record the shopper's decision: SUCCEEDED or DECLINED. A charge that has an outcome keeps it.

    Return the charge as it is afterwards, or None if no charge has this action id.
    """
    with engine.begin() as tx:
        of_action = charges.c.action_id == action_id
        row = _move(tx, of_action, Status.REQUIRES_ACTION, status)
        return row or tx.execute(select(charges).where(of_action)).one_or_none()


def find(engine: Engine, account: str, key: str) -> Charge | None:
    """Return the charge with this key, or None if the bank has not decided anything about it."""
    undecided = charges.c.status == Status.RECEIVED
    with reading(engine) as tx:
        return tx.execute(select(charges).where(of_key(account, key), ~undecided)).one_or_none()


def find_action(engine: Engine, action_id: str) -> Charge | None:
    """Return the charge with this action id, or None."""
    with reading(engine) as tx:
        return tx.execute(select(charges).where(charges.c.action_id == action_id)).one_or_none()


def of_key(account: str, key: str) -> ColumnElement[bool]:
    """Return the condition for the account's charge with this key."""
    return and_(charges.c.account == account, charges.c.key == key)


def record_movement(tx: Connection, **columns: Any) -> None:
    """Insert one line of the statement, in the transaction of its outcome. A key moves money once per kind."""
    tx.execute(insert(movements).values(at=datetime.now(UTC), **columns))


def _record_charge(tx: Connection, row: Charge) -> None:
    record_movement(
        tx, account=row.account, key=row.key, charge=row.key, shop_id=row.shop_id,
        kind="charge", amount=row.amount, currency=row.currency,
    )  # fmt: skip


def _insert_or_count(tx: Connection, account: str, request: BankChargeRequest) -> Charge:
    """Insert the charge, or count one more request under its key. Both lock the row until the transaction ends."""
    behaviour = request.card.behaviour
    first_request = insert_into(tx, charges).values(
        account=account,
        key=request.key,
        status=FIRST_STATUS.get(behaviour, Status.SUCCEEDED),
        reason=REASON.get(behaviour),
        fingerprint=request.fingerprint,
        amount=request.amount,
        currency=request.currency,
        last4=request.last4,
        shop=request.shop,
        shop_id=request.shop_id,
        order_id=request.order_id,
        return_url=request.return_url,
        action_id=secrets.token_urlsafe(24) if behaviour is Behaviour.ASKS_SHOPPER else None,
        calls=1,
    )
    one_more = {"calls": charges.c.calls + 1}
    counted = first_request.on_conflict_do_update(index_elements=KEY, set_=one_more)
    return tx.execute(counted.returning(charges)).one()


def _move(tx: Connection, which: ColumnElement[bool], seen: Status, status: Status) -> Charge | None:
    """Compare-and-set: change the status, and record the movement of money if there is one.

    Return None if the charge does not have the status `seen` any more.
    """
    reason = "refused_by_shopper" if status is Status.DECLINED else None
    change = update(charges).where(which, charges.c.status == seen).values(status=status, reason=reason)
    row = tx.execute(change.returning(charges)).one_or_none()
    if row is not None and row.status == Status.SUCCEEDED:
        _record_charge(tx, row)
    return row
