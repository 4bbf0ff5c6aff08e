"""The same order again: the same goods, total and e-mail address within ten minutes.

The shopper must confirm such an order before the gateway is asked for money.
"""

from functools import partial

import pytest
from flask import Flask

from app.charges import same_order
from app.charges.protocol import pay
from app.charges.same_order import OrderedBefore, fingerprint
from app.charges.states import SUCCEEDED
from app.database import transaction
from app.orders.stock import Goods
from tests.charges.gateways import DECLINED, LOST, ScriptedGateway
from tests.charges.parallel import at_once
from tests.factories import BOWL, MUG, order, purchase
from tests.shops import Shop

EMAIL = "ada@example.org"
AN_HOUR_AGO = {"sqlite": "datetime('now', '-1 hour')", "postgresql": "now() - interval '1 hour'"}


def test_a_second_device_must_confirm(shop: Shop, app: Flask) -> None:
    first, gateway = order({MUG: 2}), ScriptedGateway()
    pay(purchase(first, email=EMAIL), ScriptedGateway(), 3)
    with pytest.raises(OrderedBefore) as caught:
        pay(purchase(order({MUG: 2}), email=EMAIL), gateway, 3)
    assert (caught.value.total, caught.value.buyer_id) == (4800, first.buyer_id)
    assert gateway.asked == []
    assert shop.stock(MUG) == 198, "the second order must release its stock"


def test_a_confirmed_second_order_is_charged(shop: Shop, app: Flask) -> None:
    pay(purchase(order(), email=EMAIL), ScriptedGateway(), 3)
    second = order()
    with pytest.raises(OrderedBefore):
        pay(purchase(second, email=EMAIL), ScriptedGateway(), 3)
    assert pay(purchase(second, email=EMAIL, order_again=True), ScriptedGateway(), 3).status is SUCCEEDED
    with pytest.raises(OrderedBefore):
        pay(purchase(order(), email=EMAIL), ScriptedGateway(), 3)


def test_of_simultaneous_devices_one_pays_and_the_others_must_confirm(shop: Shop, app: Flask) -> None:
    for n in range(10):
        gateway = ScriptedGateway()
        presses = [purchase(order({BOWL: 1}), email=f"ada{n}@example.org") for _ in range(3)]
        results = at_once(app, [partial(pay, press, gateway, 3) for press in presses])
        assert sum(isinstance(result, OrderedBefore) for result in results) == 2
        assert len(gateway.asked) == 1


def test_an_earlier_order_in_doubt_counts(shop: Shop, app: Flask) -> None:
    pay(purchase(order(), email=EMAIL), ScriptedGateway(LOST), 0.1)
    with pytest.raises(OrderedBefore):
        pay(purchase(order(), email=EMAIL), ScriptedGateway(), 3)


def test_a_declined_order_does_not_count(shop: Shop, app: Flask) -> None:
    pay(purchase(order(), email=EMAIL), ScriptedGateway(DECLINED), 3)
    assert pay(purchase(order(), email=EMAIL), ScriptedGateway(), 3).status is SUCCEEDED


def test_a_declined_order_does_not_hide_an_earlier_one(shop: Shop, app: Flask) -> None:
    """The first order is paid, the confirmed second one declined. A third one must still be confirmed."""
    pay(purchase(order(), email=EMAIL), ScriptedGateway(), 3)
    pay(purchase(order(), email=EMAIL, order_again=True), ScriptedGateway(DECLINED), 3)
    with pytest.raises(OrderedBefore):
        pay(purchase(order(), email=EMAIL), ScriptedGateway(), 3)


def test_entries_that_no_longer_matter_are_deleted(shop: Shop, app: Flask, engine_name: str) -> None:
    pay(purchase(order(), email=EMAIL), ScriptedGateway(DECLINED), 3)
    pay(purchase(order(), email="grace@example.org"), ScriptedGateway(), 3)
    pay(purchase(order(), email="alan@example.org"), ScriptedGateway(LOST), 0.1)
    with transaction() as tx:
        assert same_order.forget(tx) == 2, "the entry of the declined order and its lock"
    shop.execute(f"UPDATE charge SET ended_at = {AN_HOUR_AGO[engine_name]} WHERE ended_at IS NOT NULL")
    with transaction() as tx:
        assert same_order.forget(tx) == 2, "the entry of the order that was paid an hour ago, and its lock"
    assert shop.value("SELECT count(*) FROM same_order_charge") == 1, "the order in doubt still matters"
    with pytest.raises(OrderedBefore):
        pay(purchase(order(), email="alan@example.org"), ScriptedGateway(), 3)


def test_after_ten_minutes_it_is_a_new_order(shop: Shop, app: Flask, engine_name: str) -> None:
    pay(purchase(order(), email=EMAIL), ScriptedGateway(), 3)
    shop.execute(f"UPDATE charge SET ended_at = {AN_HOUR_AGO[engine_name]}")
    assert pay(purchase(order(), email=EMAIL), ScriptedGateway(), 3).status is SUCCEEDED
    assert same_order.WINDOW == 600


@pytest.mark.parametrize("other", [{"email": "grace@example.org"}, {"goods": {MUG: 2}}, {"goods": {BOWL: 1}}])
def test_a_different_order_needs_no_confirmation(shop: Shop, app: Flask, other: dict[str, object]) -> None:
    pay(purchase(order({MUG: 1}), email=EMAIL), ScriptedGateway(), 3)
    token = order(other.get("goods", {MUG: 1}))  # type: ignore[arg-type]
    assert pay(purchase(token, email=other.get("email", EMAIL)), ScriptedGateway(), 3).status is SUCCEEDED


@pytest.mark.parametrize("spelling", ["ADA@Example.ORG", "  ada@example.org ", "ａda@example.org"])
def test_spellings_of_one_address_have_one_fingerprint(spelling: str) -> None:
    goods = [Goods(1, 1, 2400), Goods(2, 3, 100)]
    assert fingerprint(goods, "EUR", spelling) == fingerprint(goods[::-1], "EUR", EMAIL)


def test_the_fingerprint_depends_on_goods_prices_currency_and_address() -> None:
    fingerprints = {
        fingerprint([Goods(1, 1, 2400)], "EUR", EMAIL),
        fingerprint([Goods(1, 1, 2500)], "EUR", EMAIL),
        fingerprint([Goods(1, 2, 2400)], "EUR", EMAIL),
        fingerprint([Goods(1, 1, 2400)], "USD", EMAIL),
        fingerprint([Goods(1, 1, 2400)], "EUR", "a" + EMAIL),
    }
    assert len(fingerprints) == 5
