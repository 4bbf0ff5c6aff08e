"""Baskets that nobody uses are deleted after a month, a bounded number at a time; an order with a charge never is."""

from collections.abc import Callable

import pytest
from flask import Flask
from sqlalchemy import event, text

from app.charges import purge
from app.charges.protocol import pay
from app.database import db, transaction
from app.orders import basket, unused
from tests.charges.gateways import DECLINED, ScriptedGateway
from tests.factories import BOWL, MUG, order, purchase
from tests.shops import Shop

AGO = {"sqlite": "strftime('%Y-%m-%d %H:%M:%f', 'now', '-{days} days') || '000'",
       "postgresql": "now() - interval '{days} days'"}  # fmt: skip


@pytest.fixture
def last_used(shop: Shop, engine_name: str) -> Callable[[float], None]:
    """Return a function that makes every basket one that was last used so many days ago."""

    def set_days(days: float) -> None:
        ago = AGO[engine_name].format(days=days)
        shop.execute(f"UPDATE orders SET in_use_at = {ago} WHERE in_use_at IS NOT NULL")

    return set_days


def test_unused_baskets_are_deleted_with_their_lines(
    shop: Shop, app: Flask, last_used: Callable[[float], None]
) -> None:
    for _ in range(3):
        order({MUG: 1, BOWL: 2})
    last_used(30.5)
    assert purge.run() == 0
    last_used(31.5)
    fresh = order()
    assert (purge.run(), purge.run()) == (3, 0)
    assert shop.rows("SELECT DISTINCT order_id FROM order_line") == shop.rows("SELECT id FROM orders")
    assert pay(purchase(fresh), ScriptedGateway(), 3).status == "succeeded"


def test_a_pass_is_bounded(
    shop: Shop, app: Flask, last_used: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge, "MOST", 2)
    for _ in range(5):
        order()
    last_used(32)
    assert [purge.run() for _ in range(4)] == [2, 2, 1, 0]


def test_an_order_with_a_charge_is_kept_and_not_looked_at_again(
    shop: Shop, app: Flask, last_used: Callable[[float], None]
) -> None:
    """Paid, and declined with the basket changed afterwards, so that it is in use again."""
    paid, declined = order(), order()
    pay(purchase(paid), ScriptedGateway(), 3)
    pay(purchase(declined), ScriptedGateway(DECLINED), 3)
    assert shop.rows("SELECT DISTINCT in_use_at FROM orders") == [(None,)]
    with transaction() as tx:
        basket.put(tx, declined.buyer_id, MUG, 2, "EUR")
    last_used(32)
    assert purge.run() == 0
    assert shop.value("SELECT count(*) FROM orders") == 2
    assert shop.rows("SELECT DISTINCT in_use_at FROM orders") == [(None,)], "the next pass does not find it"


def test_a_basket_that_is_used_is_noted_once_a_day(shop: Shop, app: Flask, last_used: Callable[[float], None]) -> None:
    token = order()

    def noted_after_change() -> object:
        with transaction() as tx:
            basket.put(tx, token.buyer_id, BOWL, 1, "EUR")
        return shop.value("SELECT in_use_at FROM orders")

    last_used(0.5)
    before = shop.value("SELECT in_use_at FROM orders")
    assert noted_after_change() == before
    last_used(1.5)
    assert str(noted_after_change()) > str(before)
    last_used(32)
    noted_after_change()
    assert purge.run() == 0


FILL = """
INSERT INTO orders (buyer_id, random_id, state, version, currency, created_at, in_use_at)
SELECT gen_random_uuid(), gen_random_uuid(), CASE WHEN n % 4 = 0 THEN 'placed' ELSE 'open' END, 1, 'EUR', now(),
       CASE WHEN n % 4 > 0 THEN now() - n * interval '1 minute' END
FROM generate_series(1, 60000) AS n;
INSERT INTO order_line (order_id, product_id, quantity, unit_price)
SELECT id, 1, 1, 2400 FROM orders;
INSERT INTO charge (key, receipt_id, order_id, buyer_id, status, amount, currency, refunded, email, name, receipt_url,
                    arrivals, other_arrivals, gateway, account, ask_at, times_asked, created_at, ended_at)
SELECT gen_random_uuid(), gen_random_uuid()::text, id, buyer_id, 'declined', 1, 'EUR', 0, 'a', 'a', 'a', 1, 0,
       'sandbox', 'a', now(), 0, now(), now() FROM orders WHERE state = 'placed';
ANALYZE orders; ANALYZE order_line; ANALYZE charge;
"""


@pytest.mark.slow
@pytest.mark.parametrize("engine_name", [pytest.param("postgresql", marks=pytest.mark.postgres)], indirect=True)
def test_no_statement_of_a_pass_reads_a_whole_table(shop: Shop, app: Flask) -> None:
    """Each statement of a full pass, with its own values, is explained after it has run, in the same transaction."""
    with transaction() as tx:
        tx.execute(text(FILL))
    plans: list[tuple[str, str]] = []

    def explain(connection: object, cursor: object, statement: str, parameters: object, *_: object) -> None:
        with connection.connection.cursor() as other:  # type: ignore[attr-defined]
            other.execute(f"EXPLAIN {statement}", parameters)
            plans.append((statement, "\n".join(line for (line,) in other.fetchall())))

    event.listen(db.engine, "before_cursor_execute", explain)
    try:
        assert purge.run() == purge.MOST
    finally:
        event.remove(db.engine, "before_cursor_execute", explain)
    assert len(plans) == 5
    assert [plan for _, plan in plans if "Seq Scan" in plan] == []
    assert "ix_orders_in_use_at" in plans[0][1]
    assert unused.PURGED_AFTER == 30 * 86_400
