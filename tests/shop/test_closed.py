"""CLOSED=on: no form is paid, nothing that was filled in is lost, and what was paid before leads to its receipt."""

from collections.abc import Callable

import pytest

from tests.factories import BOWL, MUG, fill_basket, ready_to_pay
from tests.shops import Shop

NOT_TAKEN = "This try took no money"


@pytest.fixture
def closed(shop: Shop) -> Shop:
    """The same shop, started again with CLOSED=on."""
    return shop.another(closed=True)


def test_a_form_is_not_paid_and_keeps_what_was_filled_in(shop: Shop, closed: Shop) -> None:
    shopper = closed.shopper()
    form = ready_to_pay(shopper, email="eve@example.org")
    page = form.submit()
    assert (page.status, NOT_TAKEN in page.text) == (503, True)
    again = page.form("Pay")
    assert (again.fields["email"], again.fields["checkout_token"]) == (
        "eve@example.org", form.fields["checkout_token"],
    )  # fmt: skip
    assert (shop.charges(), shop.statement(), shop.stock(MUG)) == ({}, [], 200)
    opened = shop.shopper(like=shopper)
    assert ready_to_pay(opened).submit().heading == "Paid: €24.00"


def test_a_form_that_was_paid_leads_to_its_receipt(shop: Shop, closed: Shop) -> None:
    shopper = shop.shopper()
    form = ready_to_pay(shopper)
    paid = form.submit()
    answer = closed.shopper(like=shopper).client.post("/checkout", data=form.fields)
    assert (answer.status_code, answer.headers["Location"]) == (303, paid.path)
    assert len(shop.statement()) == 1


def test_a_form_whose_order_is_another_by_now_is_not_shown_as_uncharged(shop: Shop, closed: Shop) -> None:
    """After a restore, this order may have been paid. So the page says what to quote."""
    shopper = closed.shopper()
    form = ready_to_pay(shopper)
    fill_basket(shopper, BOWL)
    page = form.submit()
    assert (page.status, page.heading) == (503, "The shop takes no payments at the moment")
    assert NOT_TAKEN in page.text and "do not pay again" in page.text
    assert shop.charges() == {}


@pytest.mark.parametrize("path", ["/", "/basket", "/checkout", "/receipts", "/healthz", "/readyz"])
def test_every_page_can_be_read(closed: Shop, path: str) -> None:
    shopper = closed.shopper()
    fill_basket(shopper)
    assert shopper.client.get(path).status_code == 200


def test_it_is_off_by_default(make_shop: Callable[..., Shop]) -> None:
    assert make_shop().settings().closed is False
