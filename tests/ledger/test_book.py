"""The ledger: every posting sums to zero, is made once and never changes."""

import pytest
from flask import Flask
from sqlalchemy.exc import DatabaseError, IntegrityError

from app.charges import protocol
from app.charges.rows import ChargeSnapshot
from app.database import transaction
from app.gateways.base import Answer, Outcome
from app.ledger import book
from tests.charges.gateways import ScriptedGateway
from tests.factories import order, purchase
from tests.shops import Shop

SUM = "SELECT sum(amount) FROM ledger_entry"


@pytest.fixture
def paid(shop: Shop, app: Flask) -> ChargeSnapshot:
    charge = protocol.claim(purchase(order()), ScriptedGateway(), 3)
    return protocol.record(charge, Answer(Outcome.SUCCEEDED))


def test_a_posting_sums_to_zero(shop: Shop, paid: ChargeSnapshot) -> None:
    assert shop.value(SUM) == 0
    assert shop.rows("SELECT account, amount, currency, charge_id FROM ledger_entry ORDER BY account") == [
        ("gateway", 2400, "EUR", paid.id), ("sales", -2400, "EUR", paid.id),
    ]  # fmt: skip


def test_a_charge_is_posted_once(shop: Shop, paid: ChargeSnapshot) -> None:
    with pytest.raises(IntegrityError), transaction() as tx:
        book.post(tx, paid.id, paid.amount, paid.currency, kind=book.Kind.CHARGE)
    assert shop.value("SELECT count(*) FROM ledger_entry") == 2


@pytest.mark.parametrize("sql", ["UPDATE ledger_entry SET amount = 1", "DELETE FROM ledger_entry",
                                 "UPDATE ledger_entry SET account = 'mine' WHERE amount > 0"])  # fmt: skip
def test_entries_are_never_changed_or_deleted(shop: Shop, paid: ChargeSnapshot, sql: str) -> None:
    with pytest.raises(DatabaseError, match="the ledger is append-only"):
        shop.execute(sql)
    assert shop.value(SUM) == 0
    assert shop.value("SELECT count(*) FROM ledger_entry") == 2


def test_the_ledger_is_never_emptied(shop: Shop, paid: ChargeSnapshot, engine_name: str) -> None:
    sql = "TRUNCATE ledger_entry CASCADE" if engine_name == "postgresql" else "DELETE FROM ledger_entry WHERE 1"
    with pytest.raises(DatabaseError, match="the ledger is append-only"):
        shop.execute(sql)


def test_an_amount_of_zero_is_refused(shop: Shop, paid: ChargeSnapshot) -> None:
    with pytest.raises(IntegrityError, match="amount_not_zero"):
        shop.execute(
            "INSERT INTO ledger_entry (charge_id, kind, account, amount, currency, created_at) "
            "VALUES (:charge, 'charge', 'odd', 0, 'EUR', CURRENT_TIMESTAMP)", charge=paid.id,
        )  # fmt: skip


def test_an_entry_belongs_to_a_charge(shop: Shop, app: Flask) -> None:
    with pytest.raises(IntegrityError), transaction() as tx:
        book.post(tx, 99_999, 2400, "EUR", kind=book.Kind.CHARGE)
