"""Old baskets, as shoppers see them: what is used stays, and a form whose basket was cleared says so."""

from collections.abc import Callable
from time import time

import pytest

from app.charges import purge
from app.orders.unused import PURGED_AFTER
from app.shop import basket, texts
from tests.factories import BOWL, checkout_form, fill_basket, ready_to_pay
from tests.recovery import recover_and_audit
from tests.shops import Shop

AGO = {"sqlite": "strftime('%Y-%m-%d %H:%M:%f', 'now', '-{days} days') || '000'",
       "postgresql": "now() - interval '{days} days'"}  # fmt: skip
CLEARED = "This basket was cleared after 30 days"


@pytest.fixture
def days_pass(shop: Shop, engine_name: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return a function that makes all baskets, and all forms that were shown, so many days older. Then it purges."""

    def pass_(days: float) -> None:
        ago = AGO[engine_name].format(days=days)
        shop.execute(f"UPDATE orders SET in_use_at = {ago} WHERE in_use_at IS NOT NULL")
        monkeypatch.setattr("app.shop.checkout.time", lambda: time() + days * 86_400)
        with shop.app.app_context():
            purge.run()

    return pass_


@pytest.mark.parametrize("invalid", [False, True], ids=["valid", "invalid"])
def test_the_form_of_a_cleared_basket_says_so(shop: Shop, days_pass: Callable[[float], None], invalid: bool) -> None:
    form = ready_to_pay(shop.shopper())
    days_pass(32)
    page = form.fill(email="nobody" if invalid else "ada@example.org").submit()
    assert (page.status, page.heading) == (410, CLEARED)
    assert "This try took no money." in page.text
    assert (shop.charges(), shop.statement()) == ({}, [])
    assert fill_basket(form.page.shopper, BOWL).status == 200, "the same browser begins a new basket"
    recover_and_audit(shop)


def test_a_form_that_was_shown_lately_keeps_its_basket(shop: Shop, days_pass: Callable[[float], None]) -> None:
    """Showing the form is a use: the basket is older than a month, its form is not."""
    shopper = shop.shopper()
    fill_basket(shopper)
    days_pass(29)
    form = checkout_form(shopper)
    before = shop.value("SELECT in_use_at FROM orders")
    assert checkout_form(shopper).page.status == 200
    assert shop.value("SELECT in_use_at FROM orders") == before, "noted once a day"
    with shop.app.app_context():
        assert purge.run() == 0
    assert form.submit().heading == "Paid: €24.00"


def test_a_claimed_form_leads_to_its_receipt_after_a_year(shop: Shop, days_pass: Callable[[float], None]) -> None:
    form = ready_to_pay(shop.shopper())
    paid = form.submit()
    days_pass(400)
    assert form.submit().url == paid.url
    assert PURGED_AFTER == 30 * 86_400


def test_new_baskets_are_limited_per_network(shop: Shop) -> None:
    most = basket.NEW_BASKETS.amount
    office, other = "198.51.100.7", "198.51.100.8"
    for _ in range(most):
        with shop.app.test_request_context(environ_base={"REMOTE_ADDR": office}):
            assert not basket._begins_too_many(None)
    late = shop.shopper(address=office).open("/products/morning-mug").submit("Add to basket")
    assert (late.status, texts.MANY_BASKETS in late.problems) == (429, True)
    assert fill_basket(shop.shopper(address=other)).status == 200
    assert shop.value("SELECT count(*) FROM orders") == 1


def test_changing_a_basket_is_not_limited(shop: Shop) -> None:
    shopper = shop.shopper(address="198.51.100.7")
    fill_basket(shopper)
    for _ in range(basket.NEW_BASKETS.amount):
        with shop.app.test_request_context(environ_base={"REMOTE_ADDR": "198.51.100.7"}):
            basket._begins_too_many(None)
    assert fill_basket(shopper, BOWL).status == 200
