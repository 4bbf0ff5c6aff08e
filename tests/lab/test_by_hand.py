"""The shops to try by hand: each visitor's own, through the shop's own pages."""

import pytest

from tests.factories import fields
from tests.page import Shopper
from tests.shops import Shop

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("lab")]


def statement(visitor: Shopper, defence: int) -> int:
    return int(visitor.client.get(f"/lab/bank/{defence}.json").json()["html"].count("number"))


def form_of(visitor: Shopper, path: str) -> dict[str, str]:
    """The hidden fields of the page's first form."""
    form = visitor.open(path).root.all("form")[0]
    return {field.attrs["name"]: field.attrs.get("value", "") for field in form.all("input")}


def test_a_stall_charges_as_often_as_its_form_comes(shop: Shop) -> None:
    visitor = shop.shopper()
    hidden = form_of(visitor, "/lab/try/2/")
    answers = [visitor.post("/lab/try/2/pay", hidden) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [303, 303]
    assert statement(visitor, 2) == 2
    assert statement(shop.shopper(), 2) == 0, "another visitor's bank is another bank"
    assert shop.statement() == [], "and the shop's own bank was not asked"


def test_a_stall_takes_no_forged_form(shop: Shop) -> None:
    visitor = shop.shopper()
    visitor.open("/lab/try/1/")
    assert visitor.post("/lab/try/1/pay").status_code == 400
    assert statement(visitor, 1) == 0


def test_payonce_by_hand_charges_once_and_leaves_the_shop_alone(shop: Shop) -> None:
    visitor = shop.shopper()
    basket = form_of(visitor, "/lab/try/7/products/morning-mug")
    assert visitor.post("/lab/try/7/basket", basket | {"quantity": "1"}).status_code == 303
    checkout = form_of(visitor, "/lab/try/7/checkout")
    answers = [visitor.post("/lab/try/7/checkout", checkout | fields()) for _ in range(3)]
    assert {answer.headers["Location"] for answer in answers} == {answers[0].headers["Location"]}
    assert answers[0].headers["Location"].startswith("/lab/try/7/receipts/")
    assert visitor.open(answers[0].headers["Location"]).status == 200
    assert statement(visitor, 7) == 1
    assert shop.charges() == {}
    assert visitor.open("/receipts").status == 200


def test_starting_over_empties_the_statement(shop: Shop) -> None:
    visitor = shop.shopper()
    hidden = form_of(visitor, "/lab/try/1/")
    visitor.post("/lab/try/1/pay", hidden)
    assert statement(visitor, 1) == 1
    assert visitor.post("/lab/bank/1", {"csrf_token": hidden["csrf_token"]}).status_code == 303
    assert statement(visitor, 1) == 0
