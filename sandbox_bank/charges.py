"""Charges at the bank: each verb is one transaction, and the money moves in it or not at all.

A key is decided once. Who comes first is arbitrated by the primary key of `bank_charges`, never by a look.
"""

import secrets
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Row, insert, select, update

from app.gateways.sandbox.cards import Behaviour
from sandbox_bank.asked import ChargeAsked, KeyReused
from sandbox_bank.storage import OPEN, Status, charges, insert_into, movements, reading

FIRST_STATUS = {
    Behaviour.DECLINES: Status.DECLINED,
    Behaviour.INSUFFICIENT_FUNDS: Status.DECLINED,
    Behaviour.ASKS_SHOPPER: Status.REQUIRES_ACTION,
    Behaviour.FAILS_BEFORE_TAKING: Status.RECEIVED,
    Behaviour.SILENT_TAKES_NOTHING: Status.RECEIVED,
}
"""Where a card's charge stands after its first request; any other card approves."""

REASON = {Behaviour.DECLINES: "card_declined", Behaviour.INSUFFICIENT_FUNDS: "insufficient_funds"}

Charge = Row[Any]


def charge(engine: Engine, asked: ChargeAsked) -> Charge:
    """Decide the key, or say how it was decided. The same request always gets the same answer.

    Raises KeyReused where another request took the key: nothing changes then.
    """
    with engine.begin() as tx:
        row = _arrive(tx, asked)
        if row.fingerprint is None:
            return row
        if row.fingerprint != asked.fingerprint:
            raise KeyReused
        if row.calls == 1 and row.status == Status.SUCCEEDED:
            record_movement(tx, row.key, "charge", row.amount, row.currency)
        if row.calls > 1 and asked.card.behaviour is Behaviour.FAILS_BEFORE_TAKING:
            row = _settle(tx, charges.c.key == row.key, Status.RECEIVED, Status.SUCCEEDED) or row
    return row


def cancel(engine: Engine, key: str) -> Charge:
    """Fence the key, heard of or not: nothing under it takes money from now. Answers what won."""
    with engine.begin() as tx:
        fence = insert_into(tx, charges).values(key=key, status=Status.CANCELED, calls=0)
        tx.execute(
            fence.on_conflict_do_update(
                index_elements=[charges.c.key],
                set_={"status": Status.CANCELED},
                where=charges.c.status.in_(OPEN),
            )
        )
        return tx.execute(select(charges).where(charges.c.key == key)).one()


def answer_action(engine: Engine, action_id: str, status: Status) -> Charge | None:
    """The shopper confirmed (`succeeded`) or refused (`declined`). What was decided before stays as it is.

    None where the bank has no such page.
    """
    with engine.begin() as tx:
        of_action = charges.c.action_id == action_id
        row = _settle(tx, of_action, Status.REQUIRES_ACTION, status)
        return row or tx.execute(select(charges).where(of_action)).one_or_none()


def find(engine: Engine, key: str) -> Charge | None:
    """The charge under this key; None where the bank has decided nothing about it."""
    undecided = charges.c.status == Status.RECEIVED
    with reading(engine) as look:
        return look.execute(select(charges).where(charges.c.key == key, ~undecided)).one_or_none()


def find_action(engine: Engine, action_id: str) -> Charge | None:
    """The charge whose page this is."""
    with reading(engine) as look:
        return look.execute(select(charges).where(charges.c.action_id == action_id)).one_or_none()


def record_movement(tx: Connection, key: str, kind: str, amount: int, currency: str) -> None:
    """One line of the statement, in the transaction of its outcome. UNIQUE (key, kind): never a second."""
    now = datetime.now(UTC)
    tx.execute(insert(movements).values(key=key, kind=kind, amount=amount, currency=currency, at=now))


def _arrive(tx: Connection, asked: ChargeAsked) -> Charge:
    """Insert the charge, or count one more request under its key. Either way the row is locked now."""
    behaviour = asked.card.behaviour
    asks = behaviour is Behaviour.ASKS_SHOPPER
    arrival = insert_into(tx, charges).values(
        key=asked.key,
        status=FIRST_STATUS.get(behaviour, Status.SUCCEEDED),
        reason=REASON.get(behaviour),
        fingerprint=asked.fingerprint,
        amount=asked.amount,
        currency=asked.currency,
        last4=asked.last4,
        shop=asked.shop,
        return_url=asked.return_url,
        action_id=secrets.token_urlsafe(24) if asks else None,
        calls=1,
    )
    once_more = {"calls": charges.c.calls + 1}
    counted = arrival.on_conflict_do_update(index_elements=[charges.c.key], set_=once_more)
    return tx.execute(counted.returning(charges)).one()


def _settle(tx: Connection, which: ColumnElement[bool], seen: Status, status: Status) -> Charge | None:
    """Compare-and-set from the status that was seen; with it the movement, if any. None: too late."""
    reason = "refused_by_shopper" if status is Status.DECLINED else None
    change = update(charges).where(which, charges.c.status == seen).values(status=status, reason=reason)
    row = tx.execute(change.returning(charges)).one_or_none()
    if row is not None and row.status == Status.SUCCEEDED:
        record_movement(tx, row.key, "charge", row.amount, row.currency)
    return row
