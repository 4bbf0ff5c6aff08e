"""The basket is the buyer's one open order. Every change renews its version."""

from functools import partial
from uuid import uuid4

import pytest
from flask import Flask
from sqlalchemy.exc import IntegrityError

from app.database import transaction
from app.orders import basket
from app.orders.models import Order
from tests.charges.parallel import at_once
from tests.factories import BOWL, MUG, bare_charge, change_product, product
from tests.shops import Shop

BUYER = uuid4()


def put(slug: str, quantity: int, paid: int | None = None, buyer_id: object = BUYER) -> None:
    with transaction() as tx:
        basket.put(tx, buyer_id, slug, quantity, "EUR", paid)  # type: ignore[arg-type]


def newest() -> Order:
    with transaction() as tx:
        order = basket.newest(tx, BUYER)
    assert order is not None
    return order


def goods() -> dict[str, int]:
    return {line.product.slug: line.quantity for line in newest().lines}


def test_put_sets_the_quantity_and_does_not_add_to_it(app: Flask) -> None:
    put(MUG, 2)
    put(MUG, 2)
    put(BOWL, 1)
    assert goods() == {MUG: 2, BOWL: 1}
    put(MUG, 0)
    assert goods() == {BOWL: 1}


def test_each_change_renews_the_version(app: Flask) -> None:
    versions = []
    for quantity in (1, 1, 5, 0):
        put(MUG, quantity)
        versions.append(newest().version)
    assert len(set(versions)) == len(versions)


def test_a_refused_change_changes_nothing(shop: Shop, app: Flask) -> None:
    put(MUG, 2)
    before = newest().version
    for slug, refusal in ((MUG, basket.NotEnough), ("no-such-thing", basket.NotOnSale)):
        with pytest.raises(refusal):
            put(slug, 999)
    assert (newest().version, goods()) == (before, {MUG: 2})


def test_a_product_that_is_not_on_sale_any_more_can_be_removed(app: Flask) -> None:
    gone = product()
    put(gone, 2)
    change_product(gone, on_sale=False, stock=0)
    with pytest.raises(basket.NotOnSale):
        put(gone, 1)
    put(gone, 0)
    assert goods() == {}


def test_not_enough_says_how_many_are_left(app: Flask) -> None:
    few = product(stock=3)
    with pytest.raises(basket.NotEnough) as caught:
        put(few, 4)
    assert caught.value.left == 3
    put(few, 3)


def test_the_number_of_different_products_is_limited(app: Flask) -> None:
    for _ in range(basket.MOST_LINES):
        put(product(), 1)
    with pytest.raises(basket.BasketFull):
        put(product(), 1)


def test_simultaneous_first_products_make_one_basket(shop: Shop, app: Flask) -> None:
    for _ in range(5):
        buyer_id = uuid4()
        results = at_once(app, [partial(put, slug, 1, None, buyer_id) for slug in (MUG, BOWL, MUG, BOWL)])
        assert results == [None] * 4
        rows = shop.rows("SELECT id, buyer_id FROM orders")
        order_ids = [order_id for order_id, owner in rows if str(owner).replace("-", "") == buyer_id.hex]
        assert len(order_ids) == 1
        assert shop.value("SELECT count(*) FROM order_line WHERE order_id = :id", id=order_ids[0]) == 2


def test_while_an_order_is_placed_no_basket_can_be_started_until_it_is_paid(shop: Shop, app: Flask) -> None:
    put(MUG, 1)
    order = newest()
    with transaction() as tx:
        basket.freeze(tx, bare_charge(tx, order), order.id, order.version, order.total)
    with pytest.raises(basket.OrderPlaced):
        put(BOWL, 1)
    with pytest.raises(basket.OrderPlaced):
        put(BOWL, 1, paid=order.id - 1)
    put(BOWL, 1, paid=order.id)
    assert goods() == {BOWL: 1}
    assert newest().id != order.id


@pytest.mark.parametrize("change", [("version", 1), ("total", 1), ("total", -1), ("version", -1), ("id", 1)])
def test_an_order_is_placed_only_as_it_was_shown(shop: Shop, app: Flask, change: tuple[str, int]) -> None:
    put(MUG, 2)
    order = newest()
    shown = {"id": order.id, "version": order.version, "total": order.total}
    shown[change[0]] += change[1]
    with pytest.raises(basket.OrderChanged), transaction() as tx:
        basket.freeze(tx, bare_charge(tx, order), shown["id"], shown["version"], shown["total"])
    assert (newest().state, shop.stock(MUG)) == ("open", 200)


def test_reopening_an_order_restores_it_and_its_stock(shop: Shop, app: Flask) -> None:
    put(MUG, 2)
    order = newest()
    with transaction() as tx:
        placed = basket.freeze(tx, bare_charge(tx, order), order.id, order.version, order.total)
        assert [(line.quantity, line.price) for line in placed] == [(2, 2400)]
    assert shop.stock(MUG) == 198
    with transaction() as tx:
        basket.reopen(tx, 1, order.id)
    assert (newest().state, newest().version, shop.stock(MUG)) == ("open", order.version, 200)


def test_the_current_price_counts_until_the_claim_freezes_it(shop: Shop, app: Flask) -> None:
    put(MUG, 2)
    change_product(MUG, price=2500)
    order = newest()
    assert order.total == 5000
    with transaction() as tx:
        basket.freeze(tx, bare_charge(tx, order), order.id, order.version, 5000)
    change_product(MUG, price=9900)
    assert shop.rows("SELECT name, quantity, unit_price FROM charge_line") == [("Morning mug", 2, 2500)]


INVALID = {
    "quantity": "UPDATE order_line SET quantity = 0",
    "line price": "UPDATE order_line SET unit_price = 0",
    "product twice": "INSERT INTO order_line (order_id, product_id, quantity, unit_price) "
    "SELECT order_id, product_id, 1, 1 FROM order_line",
    "unknown product": "UPDATE order_line SET product_id = 99999",
    "state": "UPDATE orders SET state = 'paid'",
    "version": "UPDATE orders SET version = 0",
    "second open order": "INSERT INTO orders (buyer_id, random_id, state, version, currency, created_at) "
    "SELECT buyer_id, random_id, state, version, currency, created_at FROM orders",
    "price": "UPDATE product SET price = 0",
    "stock below zero": "UPDATE product SET stock = -1",
    "more stock than stocked": "UPDATE product SET stock = stocked + 1",
    "slug twice": "UPDATE product SET slug = 'same'",
}


@pytest.mark.parametrize("sql", INVALID.values(), ids=INVALID)
def test_the_database_refuses_invalid_rows(shop: Shop, app: Flask, sql: str) -> None:
    put(MUG, 1)
    with pytest.raises(IntegrityError):
        shop.execute(sql)
