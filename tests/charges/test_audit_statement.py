"""The audit and the gateway's statement: money that the books have lost, foreign money, and accounts that are gone."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask

from app.charges import audit, protocol, statement
from app.charges.rows import ChargeSnapshot
from app.charges.statement import beside_the_books, spooled
from app.database import db
from app.gateways.base import StatementEntry
from tests.charges.test_audit import EditedStatement, broken, command
from tests.factories import BOWL, SHOP_ID, order, purchase
from tests.shops import Shop

AN_HOUR_AGO = datetime.now(UTC) - timedelta(hours=1)


def pay(shop: Shop) -> ChargeSnapshot:
    return protocol.pay(purchase(order({BOWL: 1})), shop.gateway, 3.0)


@pytest.fixture
def charge(shop: Shop, app: Flask) -> ChargeSnapshot:
    return pay(shop)


def add(shop: Shop, *entries: dict[str, Any]) -> None:
    """Add entries to the statement: the first one of the real statement, with these changes."""
    EditedStatement(shop, lambda real: [*real, *(replace(real[0], **changes) for changes in entries)])


@pytest.mark.parametrize("kind", ["charge", "refund"])
def test_money_with_our_shop_id_that_the_books_have_lost_is_a_breach(
    charge: ChargeSnapshot, shop: Shop, kind: str
) -> None:
    lost = str(uuid4())
    add(shop, {"key": lost, "kind": kind, "payment_reference": "lost", "gateway_reference": "re_1"})
    assert broken(shop) == {3: [f"{kind} {lost} (re_1) is not in the books"]}
    assert command(shop)[1]["foreign"] == []


@pytest.mark.parametrize("shop_id", ["another-shop", SHOP_ID.upper(), None])
def test_money_without_our_shop_id_is_foreign_and_breaks_nothing(
    charge: ChargeSnapshot, shop: Shop, shop_id: str | None
) -> None:
    """Another shop uses the account too, or an earlier version, which wrote no SHOP_ID, has taken it."""
    key = str(uuid4())
    add(shop, {"key": key, "shop_id": shop_id, "payment_reference": None}, {"key": "another-shops", "shop_id": shop_id})
    code, report = command(shop)
    assert (code, set(report["foreign"])) == (0, {"charge another-shops", f"charge {key}"})


def test_every_foreign_entry_is_counted_and_summed(charge: ChargeSnapshot, shop: Shop) -> None:
    more = audit.SHOWN + 20
    foreign = [{"key": f"key-{number}", "shop_id": None, "amount": 1_000} for number in range(more)]
    refund = {"key": "refund", "kind": "refund", "shop_id": None, "amount": 5, "payment_reference": "other"}
    add(shop, *foreign, refund | {"currency": "USD"})
    code, report = command(shop)
    assert (code, len(report["foreign"]), report["foreign"][-1]) == (0, audit.SHOWN + 1, "and 21 more")
    assert report["foreign_sums"] == [
        {"what": "charge", "currency": "EUR", "entries": more, "amount": more * 1_000},
        {"what": "refund", "currency": "USD", "entries": 1, "amount": 5},
    ]
    text = shop.app.test_cli_runner().invoke(args=["audit"]).output
    assert "charge: 120, €1,200.00" in text and "refund: 1, $0.05" in text


def test_a_refund_made_by_hand_whose_event_was_lost_is_a_breach_and_is_named_as_at_the_gateway(
    charge: ChargeSnapshot, shop: Shop
) -> None:
    """It bears no SHOP_ID, but it is a refund of our payment. Its event may still be on its way for a minute."""
    key = str(uuid4())
    by_hand = {"key": key, "kind": "refund", "shop_id": None, "gateway_reference": "re_1A2b"}
    add(shop, by_hand)
    assert command(shop)[0] == 0
    add(shop, by_hand | {"at": AN_HOUR_AGO})
    assert broken(shop) == {3: [f"refund {key} (re_1A2b) is not in the books"]}


class Watched:
    """The sandbox gateway. While its statement is read, it counts open connections and somebody pays."""

    def __init__(self, shop: Shop) -> None:
        self.shop, self.inner, self.open = shop, shop.gateway, -1
        shop.gateways.use(self)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def statement(self) -> Iterator[StatementEntry]:
        yield from ()
        self.open = db.engine.pool.checkedout()  # type: ignore[attr-defined]
        pay(self.shop)
        yield from self.inner.statement()


def test_the_statement_is_read_with_no_transaction_open_and_before_the_books(
    charge: ChargeSnapshot, shop: Shop
) -> None:
    """A payment that is made meanwhile is on the statement, so the books must be read after it."""
    watched = Watched(shop)
    assert broken(shop) == {}
    assert watched.open == 0


def test_the_books_are_read_in_one_snapshot(charge: ChargeSnapshot, shop: Shop) -> None:
    count = "SELECT count(*) FROM charge"
    with spooled(shop.gateway.statement(), SHOP_ID) as file, beside_the_books(file, 60) as connection:
        before = connection.exec_driver_sql(count).scalar()
        with shop.app.app_context():
            pay(shop)
        assert connection.exec_driver_sql(count).scalar() == before == shop.value(count) - 1


def test_the_statement_survives_the_temporary_file(charge: ChargeSnapshot, shop: Shop) -> None:
    """Texts with separators, quotes, line breaks and letters of any script arrive unchanged."""
    odd = 'a,"b"\nü\\N 鍵'
    first = next(shop.gateway.statement())
    entries = [replace(first, key=odd, payment_reference=odd, shop_id=None), replace(first, gateway_reference=odd)]
    with spooled(entries, SHOP_ID) as file, beside_the_books(file, 60) as connection:
        found = {row.ours: row for row in connection.execute(statement.statement.select())}
    assert (found[False].foreign_key, found[False].payment, found[False].key) == (odd, odd, None)
    assert (str(found[True].key), found[True].reference, found[True].foreign_key) == (first.key, odd, None)
    assert {row.at for row in found.values()} == {first.at}
