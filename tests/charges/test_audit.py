"""The audit reports each invariant that a test breaks on purpose, and nothing else."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask import Flask
from sqlalchemy import update

from app.charges import protocol, refunds
from app.charges.models import Charge
from app.charges.rows import ChargeSnapshot
from app.charges.states import SUCCEEDED
from app.charges.tokens import new_receipt_id
from app.database import db, from_now, transaction
from app.gateways.base import NotSent, StatementEntry, Unknown
from tests.factories import ASKS_SHOPPER, BOWL, DECLINES, MUG, order, purchase
from tests.shops import Shop

LINK = "http://127.0.0.1:8000/receipts/1"


class EditedStatement:
    """The sandbox gateway with an edited statement. `edit` takes the real statement and returns the edited one."""

    def __init__(self, shop: Shop, edit: Callable[[list[StatementEntry]], list[StatementEntry]]) -> None:
        self.inner: Any = shop.gateway
        self.edit = edit
        shop.gateways.use(self)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def statement(self) -> Iterator[StatementEntry]:
        yield from self.edit(list(self.inner.statement()))


def command(shop: Shop) -> tuple[int, dict[str, Any]]:
    result = shop.app.test_cli_runner().invoke(args=["audit", "--json"])
    return result.exit_code, json.loads(result.stdout)


def broken(shop: Shop) -> dict[int, list[str]]:
    """Return the offenders that the command reports, by invariant number. Its exit code must agree."""
    code, report = command(shop)
    found = {each["number"]: each["offenders"] for each in report["invariants"] if not each["holds"]}
    assert (code, report["ok"]) == ((1, False) if found else (0, True))
    return found


@pytest.fixture
def database_url(database_url: str, engine_name: str, request: pytest.FixtureRequest) -> str:
    """Return the shared test database, or one of its own for a test whose `by_hand` removes constraints."""
    changes_schema = "by_hand" in request.fixturenames and engine_name == "postgresql"
    return str(request.getfixturevalue("own_url")) if changes_schema else database_url


@pytest.fixture
def charge(app: Flask, shop: Shop) -> ChargeSnapshot:
    """Pay four orders: declined, waiting for the shopper, paid and refunded in part, paid. Return the last charge."""
    for card in (DECLINES, ASKS_SHOPPER):
        protocol.pay(purchase(order({BOWL: 2}), card, receipt_url=LINK), shop.gateway, 3.0)
    partly_refunded = protocol.pay(purchase(order(), receipt_url=LINK), shop.gateway, 3.0)
    refunds.refund(partly_refunded, 1000, shop.gateway, 3.0)
    return protocol.pay(purchase(order({MUG: 1, BOWL: 1}), receipt_url=LINK), shop.gateway, 3.0)


@pytest.fixture
def by_hand(charge: ChargeSnapshot, shop: Shop) -> Callable[..., None]:
    """Return a function that executes any SQL. Constraints, triggers and indexes that would refuse it are removed."""
    postgresql = db.engine.dialect.name == "postgresql"
    with transaction() as connection:
        if postgresql:
            for table in ("charge", "ledger_entry", "refund"):
                connection.exec_driver_sql(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
            for table, check in connection.exec_driver_sql(CHECKS).all():
                connection.exec_driver_sql(f"ALTER TABLE {table} DROP CONSTRAINT {check}")
        else:
            for trigger in TRIGGERS:
                connection.exec_driver_sql(f"DROP TRIGGER {trigger}")
        connection.exec_driver_sql("DROP INDEX uq_charge_one_live_per_order")

    def write(sql: str, **values: Any) -> None:
        with transaction() as connection:
            if not postgresql:
                connection.exec_driver_sql("PRAGMA ignore_check_constraints=ON")
            connection.execute(db.text(sql), values)
            if not postgresql:
                connection.exec_driver_sql("PRAGMA ignore_check_constraints=OFF")

    return write


CHECKS = """
    SELECT conrelid::regclass::text, conname FROM pg_constraint
    WHERE contype = 'c' AND connamespace = 'public'::regnamespace
"""
TRIGGERS = ["charge_refuse_delete", "charge_refuse_change", "charge_refuse_transition",
            "refund_refuse_delete", "refund_refuse_change", "refund_refuse_transition",
            "ledger_entry_refuse_update", "ledger_entry_refuse_delete"]  # fmt: skip

SECOND_CHARGE = """
    INSERT INTO charge (key, receipt_id, order_id, buyer_id, status, amount, currency, refunded, email, name,
                        receipt_url, arrivals, other_arrivals, gateway, account, ask_at, times_asked, created_at,
                        ended_at)
    SELECT :key, :receipt_id, order_id, buyer_id, status, amount, currency, refunded, email, name, receipt_url,
           arrivals, other_arrivals, gateway, account, ask_at, times_asked, created_at, ended_at
    FROM charge WHERE id = :id
"""


def stored(key: UUID) -> Any:
    """Return a UUID as this engine stores it."""
    return key if db.engine.dialect.name == "postgresql" else key.hex


def entry_of(entries: list[StatementEntry], charge: ChargeSnapshot) -> StatementEntry:
    """Return the statement's entry for this charge."""
    return next(entry for entry in entries if entry.key == str(charge.key) and entry.kind == "charge")


def test_a_consistent_shop_passes(charge: ChargeSnapshot, shop: Shop) -> None:
    code, report = command(shop)
    assert (code, report["ok"]) == (0, True)
    assert [each["number"] for each in report["invariants"]] == [*range(1, 10), 11]
    assert report["open"] == ["charge 2 requires_action"]
    assert (report["stray"], report["foreign"]) == ([], [])
    result = shop.app.test_cli_runner().invoke(args=["audit"])
    assert (result.exit_code, result.output.count("\nholds ") + 1) == (0, 10)


def test_1_an_order_paid_twice(charge: ChargeSnapshot, shop: Shop, by_hand: Any) -> None:
    by_hand(SECOND_CHARGE, key=stored(uuid4()), receipt_id=new_receipt_id(), id=charge.id)
    assert broken(shop)[1] == [f"order {charge.order_id}"]


def test_2_a_key_that_moved_money_twice(charge: ChargeSnapshot, shop: Shop) -> None:
    EditedStatement(shop, lambda entries: [*entries, entry_of(entries, charge)])
    found = broken(shop)
    assert (list(found), found[3]) == ([2, 3], [f"charge {charge.id}"])
    assert found[2] == [f"key {charge.key}"], "keys must be written as on the bank's statement"


@pytest.mark.parametrize("change", [None, {"amount": 5599}, {"currency": "USD"}])
def test_3_a_payment_that_the_bank_has_not_or_has_differently(
    charge: ChargeSnapshot, shop: Shop, change: dict[str, Any] | None
) -> None:
    def edit(entries: list[StatementEntry]) -> list[StatementEntry]:
        ours = entry_of(entries, charge)
        return [entry for entry in entries if entry is not ours] + ([replace(ours, **change)] if change else [])

    EditedStatement(shop, edit)
    assert broken(shop) == {3: [f"charge {charge.id}"]}


def test_4_money_for_a_charge_that_was_declined(charge: ChargeSnapshot, shop: Shop) -> None:
    [(key,)] = shop.rows("SELECT key FROM charge WHERE status = 'declined'")
    EditedStatement(shop, lambda entries: [*entries, replace(entry_of(entries, charge), key=str(UUID(str(key))))])
    assert broken(shop) == {4: [f"charge 1 {UUID(str(key))}"]}


@pytest.mark.parametrize("sql", [
    "UPDATE orders SET state = 'open' WHERE id = :order",
    "UPDATE charge_line SET quantity = quantity + 1 WHERE charge_id = :charge",
    "UPDATE orders SET currency = 'USD' WHERE id = :order",
])  # fmt: skip
def test_5_an_order_that_differs_from_its_charge(charge: ChargeSnapshot, shop: Shop, by_hand: Any, sql: str) -> None:
    by_hand(sql, order=charge.order_id, charge=charge.id)
    assert set(broken(shop)[5]) == {f"order {charge.order_id}"}


def test_5_an_order_that_is_placed_without_a_live_charge(charge: ChargeSnapshot, shop: Shop, by_hand: Any) -> None:
    by_hand("UPDATE orders SET state = 'placed' WHERE id = 1")
    assert broken(shop) == {5: ["order 1"]}


@pytest.mark.parametrize("sql", [
    "UPDATE ledger_entry SET amount = amount + 1 WHERE charge_id = :id AND account = 'sales'",
    "DELETE FROM ledger_entry WHERE charge_id = :id",
    "UPDATE ledger_entry SET amount = -amount WHERE charge_id = :id",
])  # fmt: skip
def test_6_a_ledger_that_does_not_agree(charge: ChargeSnapshot, shop: Shop, by_hand: Any, sql: str) -> None:
    by_hand(sql, id=charge.id)
    found = broken(shop)
    assert list(found) == [6]
    assert f"charge {charge.id}" in found[6]


@pytest.mark.parametrize(("sql", "offender"), [
    ("UPDATE charge SET refunded = amount + 1 WHERE id = 3", "charge 3"),
    ("UPDATE charge SET refunded = 0 WHERE id = 3", "charge 3"),
    ("UPDATE refund SET amount = 999", "refund 1"),
    ("UPDATE refund SET status = 'declined'", "refund 1"),
])  # fmt: skip
def test_7_refunds_that_do_not_add_up(
    charge: ChargeSnapshot, shop: Shop, by_hand: Any, sql: str, offender: str
) -> None:
    by_hand(sql)
    assert offender in broken(shop)[7]


def test_7_a_refund_that_moved_money_twice_or_never(charge: ChargeSnapshot, shop: Shop) -> None:
    EditedStatement(shop, lambda entries: [*entries, *(entry for entry in entries if entry.kind == "refund")])
    assert [offender[:4] for offender in broken(shop)[7]] == ["key ", "refu"]
    shop.gateways.use(shop.gateway)
    EditedStatement(shop, lambda entries: [entry for entry in entries if entry.kind != "refund"])
    assert broken(shop) == {7: ["refund 1"]}


@pytest.mark.parametrize("sql", ["UPDATE product SET stock = stock - 1 WHERE id = :id",
                                 "UPDATE product SET stocked = stocked + 1 WHERE id = :id",
                                 "UPDATE product SET stock = -1, stocked = 0 WHERE id = :id"])  # fmt: skip
def test_8_stock_that_does_not_add_up(charge: ChargeSnapshot, shop: Shop, by_hand: Any, sql: str) -> None:
    product = shop.value("SELECT id FROM product WHERE slug = :slug", slug=MUG)
    by_hand(sql, id=product)
    assert broken(shop) == {8: [f"product {product}"]}


def test_9_an_open_charge_that_no_worker_has_asked_about_recently(charge: ChargeSnapshot, shop: Shop) -> None:
    abandoned = protocol.claim(purchase(order(), receipt_url=LINK), shop.gateway, 3.0)
    assert broken(shop) == {}
    shop.execute("UPDATE charge SET created_at = '2026-01-01 00:00:00+00:00' WHERE id = :id", id=abandoned.id)
    assert broken(shop) == {9: [f"charge {abandoned.id}"]}
    shop.execute("UPDATE charge SET note = 'the bank did not answer in time' WHERE id = :id", id=abandoned.id)
    assert broken(shop) == {9: [f"charge {abandoned.id}"]}, "a note by the request proves nothing"
    shop.execute("UPDATE charge SET asked_at = created_at WHERE id = :id", id=abandoned.id)
    assert broken(shop) == {9: [f"charge {abandoned.id}"]}, "the last question of a worker is too old"
    with transaction() as tx:
        tx.execute(update(Charge).where(Charge.id == abandoned.id).values(asked_at=from_now(-30)))
    code, report = command(shop)
    assert (code, f"charge {abandoned.id} processing: the bank did not answer in time" in report["open"]) == (0, True)


def test_11_a_charge_of_another_buyer(charge: ChargeSnapshot, shop: Shop, by_hand: Any) -> None:
    by_hand("UPDATE charge SET buyer_id = (SELECT buyer_id FROM orders WHERE id <> order_id LIMIT 1) WHERE id = :id",
            id=charge.id)  # fmt: skip
    assert broken(shop) == {11: [f"charge {charge.id}"]}


@pytest.mark.parametrize("error", [NotSent("no connection"), Unknown("the statement is incomplete")])
def test_without_a_statement_nothing_is_checked(charge: ChargeSnapshot, shop: Shop, error: Exception) -> None:
    def fail(entries: list[StatementEntry]) -> list[StatementEntry]:
        raise error

    EditedStatement(shop, fail)
    result = shop.app.test_cli_runner().invoke(args=["audit"])
    assert (result.exit_code, result.stderr) == (2, f"Error: nothing was checked: {error}\n")


def test_the_audit_changes_nothing(charge: ChargeSnapshot, shop: Shop) -> None:
    tables = ("charge", "orders", "order_line", "product", "ledger_entry", "refund")
    before = [shop.rows(f"SELECT * FROM {table} ORDER BY id") for table in tables]
    for _ in range(2):
        assert broken(shop) == {}
    assert [shop.rows(f"SELECT * FROM {table} ORDER BY id") for table in tables] == before
    assert shop.charges()[SUCCEEDED] == 2
