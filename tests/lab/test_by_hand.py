"""The shops to try by hand, as a visitor reaches them through the real shop."""

import pytest

from tests.factories import fields
from tests.page import Shopper
from tests.shops import Shop

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("lab")]


def charge_count(visitor: Shopper, defence: int) -> int:
    """Return the number of charges on the statement of the visitor's bank."""
    return int(visitor.client.get(f"/lab/bank/{defence}.json").json()["html"].count("number"))


def fields_of_form(visitor: Shopper, path: str) -> dict[str, str]:
    """Open a page. Return the names and values of its first form's fields."""
    form = visitor.open(path).root.all("form")[0]
    return {field.attrs["name"]: field.attrs.get("value", "") for field in form.all("input")}


def test_a_small_shop_charges_for_each_copy_of_its_form(shop: Shop) -> None:
    visitor = shop.shopper()
    hidden = fields_of_form(visitor, "/lab/try/2/")
    answers = [visitor.post("/lab/try/2/pay", hidden) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [303, 303]
    assert charge_count(visitor, 2) == 2
    assert charge_count(shop.shopper(), 2) == 0, "each visitor has a bank of their own"
    assert shop.statement() == [], "the real shop's bank was not asked"


def test_a_small_shop_refuses_a_form_without_csrf_token(shop: Shop) -> None:
    visitor = shop.shopper()
    visitor.open("/lab/try/1/")
    assert visitor.post("/lab/try/1/pay").status_code == 400
    assert charge_count(visitor, 1) == 0


def test_payonce_by_hand_charges_once_and_does_not_touch_the_real_shop(shop: Shop) -> None:
    visitor = shop.shopper()
    basket = fields_of_form(visitor, "/lab/try/7/products/morning-mug")
    assert visitor.post("/lab/try/7/basket", basket | {"quantity": "1"}).status_code == 303
    checkout = fields_of_form(visitor, "/lab/try/7/checkout")
    answers = [visitor.post("/lab/try/7/checkout", checkout | fields()) for _ in range(3)]
    assert {answer.headers["Location"] for answer in answers} == {answers[0].headers["Location"]}
    assert answers[0].headers["Location"].startswith("/lab/try/7/receipts/")
    assert visitor.open(answers[0].headers["Location"]).status == 200
    assert charge_count(visitor, 7) == 1
    assert shop.charges() == {}
    assert visitor.open("/receipts").status == 200


def test_start_over_empties_the_statement(shop: Shop) -> None:
    visitor = shop.shopper()
    hidden = fields_of_form(visitor, "/lab/try/1/")
    visitor.post("/lab/try/1/pay", hidden)
    assert charge_count(visitor, 1) == 1
    assert visitor.post("/lab/bank/1", {"csrf_token": hidden["csrf_token"]}).status_code == 303
    assert charge_count(visitor, 1) == 0
