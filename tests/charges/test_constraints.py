"""The rules are in the schema too: the database refuses statements that break them."""

from uuid import UUID, uuid4

import pytest
from flask import Flask
from sqlalchemy import insert
from sqlalchemy.exc import DatabaseError, IntegrityError

from app.charges import protocol
from app.charges.models import Charge, Refund
from app.charges.rows import ChargeSnapshot
from app.charges.states import LIVE, PENDING, WITHOUT_MONEY, WITHOUT_REFUND, Status
from app.charges.tokens import new_key, new_receipt_id
from app.database import from_now, table, transaction
from app.gateways.base import Answer, Outcome
from tests.factories import order, purchase
from tests.shops import Shop


@pytest.fixture
def charge(shop: Shop, app: Flask) -> ChargeSnapshot:
    """Return a charge that is being paid."""
    return protocol.claim(purchase(order()), shop.gateway, 3)


def add(like: ChargeSnapshot, status: str = Status.PROCESSING, **columns: object) -> None:
    """Insert another charge for the same order, without the protocol."""
    row = {
        "key": uuid4(), "receipt_id": new_receipt_id(), "order_id": like.order_id,
        "buyer_id": like.buyer_id, "status": status, "amount": 2400,
        "currency": "EUR", "refunded": 0, "email": "a@example.org", "name": "A", "receipt_url": "x",
        "arrivals": 1, "other_arrivals": 0,
        "gateway": "sandbox", "account": "x", "ask_at": from_now(0), "times_asked": 0, "created_at": from_now(0),
        "ended_at": None if status in PENDING else from_now(0), **columns,
    }  # fmt: skip
    with transaction() as tx:
        tx.execute(insert(table(Charge)).values(**row))


def test_a_key_is_claimed_once(charge: ChargeSnapshot) -> None:
    with pytest.raises(IntegrityError, match="key"):
        add(charge, Status.DECLINED, key=charge.key)


def test_a_receipt_id_belongs_to_one_charge(charge: ChargeSnapshot) -> None:
    with pytest.raises(IntegrityError, match="receipt_id"):
        add(charge, Status.DECLINED, receipt_id=charge.receipt_id)


@pytest.mark.parametrize("status", sorted(LIVE))
def test_an_order_has_one_live_charge(charge: ChargeSnapshot, status: Status) -> None:
    with pytest.raises(IntegrityError, match=r"order_id|one_live_per_order"):
        add(charge, status)


@pytest.mark.parametrize("status", sorted(WITHOUT_MONEY))
def test_an_order_may_have_many_charges_without_money(shop: Shop, charge: ChargeSnapshot, status: Status) -> None:
    add(charge, status)
    add(charge, status)
    assert shop.value("SELECT count(*) FROM charge") == 3


def test_a_paid_order_can_never_be_charged_again(shop: Shop, charge: ChargeSnapshot) -> None:
    protocol.record(charge, Answer(Outcome.SUCCEEDED))
    shop.execute("UPDATE charge SET refunded = amount")
    with pytest.raises(IntegrityError):
        add(charge)


CHANGES = ("amount = amount + 1", "currency = 'USD'", "order_id = order_id + 1")


@pytest.mark.parametrize("sql", ["DELETE FROM charge", *(f"UPDATE charge SET {change}" for change in CHANGES)])
def test_a_claim_is_neither_changed_nor_deleted(shop: Shop, charge: ChargeSnapshot, sql: str) -> None:
    with pytest.raises(DatabaseError, match=r"the claim of a charge does not change|a charge is never deleted"):
        shop.execute(sql)
    assert shop.rows("SELECT amount, currency, order_id FROM charge") == [(2400, "EUR", charge.order_id)]


@pytest.mark.parametrize("column", ["key", "receipt_id"])
def test_key_and_receipt_id_never_change(charge: ChargeSnapshot, column: str) -> None:
    with pytest.raises(DatabaseError, match="the claim of a charge does not change"), transaction() as tx:
        tx.execute(table(Charge).update().values({column: new_key() if column == "key" else new_receipt_id()}))


def test_invalid_charges_are_refused(charge: ChargeSnapshot) -> None:
    for wrong in ({"amount": 0}, {"amount": -1}, {"refunded": 2401}, {"refunded": -1}, {"status": "paid"}):
        with pytest.raises(IntegrityError, match="ck_charge"):
            add(charge, **{"status": Status.DECLINED, **wrong})


@pytest.mark.parametrize(("status", "ended_at"), [(Status.DECLINED, None), (Status.PROCESSING, from_now(0))])
def test_ended_at_is_set_exactly_if_the_charge_has_ended(
    shop: Shop, app: Flask, status: Status, ended_at: object
) -> None:
    with pytest.raises(IntegrityError, match="ended_when_ended"):
        ended = protocol.claim(purchase(order()), shop.gateway, 3)
        protocol.record(ended, Answer(Outcome.DECLINED))
        add(ended, status, ended_at=ended_at)


def test_an_order_that_does_not_exist_cannot_be_charged(charge: ChargeSnapshot) -> None:
    with pytest.raises(IntegrityError, match=r"FOREIGN KEY|fk_charge_order_id"):
        add(charge, Status.DECLINED, order_id=999_999)


def add_refund(charge: ChargeSnapshot, **columns: object) -> None:
    row = {
        "charge_id": charge.id, "key": uuid4(), "amount": 100, "status": "processing", "stray": False,
        "ask_at": from_now(0), "send_until": from_now(0), "times_asked": 0, "created_at": from_now(0), **columns,
    }  # fmt: skip
    with transaction() as tx:
        tx.execute(insert(table(Refund)).values(**row))


def test_a_refund_key_is_used_once(charge: ChargeSnapshot) -> None:
    add_refund(charge, key=UUID(int=1))
    with pytest.raises(IntegrityError, match="key"):
        add_refund(charge, key=UUID(int=1))


def test_a_stray_payment_has_one_refund_at_a_time(charge: ChargeSnapshot) -> None:
    for status in WITHOUT_REFUND:
        add_refund(charge, stray=True, status=status, ended_at=from_now(0))
    add_refund(charge, stray=True)
    add_refund(charge, stray=False)
    with pytest.raises(IntegrityError):
        add_refund(charge, stray=True)


def test_invalid_refunds_are_refused(charge: ChargeSnapshot) -> None:
    for wrong in ({"amount": 0}, {"status": "lost"}, {"status": "succeeded"}, {"charge_id": 999_999}):
        with pytest.raises(IntegrityError):
            add_refund(charge, **wrong)
