"""What people and their browsers do to a form that pays: it is charged once, and they always get to the receipt."""

from collections.abc import Callable

import httpx
import pytest

from tests.factories import BOWL, DECLINES, MUG, SECRET, SLOW, checkout_form, fields, fill_basket, ready_to_pay
from tests.shops import Shop


def moved(shop: Shop) -> list[int]:
    return [movement.amount for movement in shop.statement()]


def test_the_receipt_is_reloaded(shop: Shop) -> None:
    receipt = ready_to_pay(shop.shopper()).submit()
    for _ in range(3):
        again = receipt.reload()
        assert (again.status, again.heading, again.url) == (200, receipt.heading, receipt.url)
    assert moved(shop) == [2400]


def test_pay_back_pay(shop: Shop) -> None:
    """Back brings the very form again, from the browser's memory; it leads to the same receipt."""
    form = ready_to_pay(shop.shopper())
    first = form.submit()
    second = form.fill(card_number=DECLINES, name="Somebody Else").submit()
    assert (second.statuses, second.url) == ([303, 200], first.url)
    assert second.heading == "Paid: €24.00"
    assert moved(shop) == [2400]


def test_every_answer_to_the_form_is_a_redirect_with_303(shop: Shop) -> None:
    form = ready_to_pay(shop.shopper())
    answers = [form.post() for _ in range(4)]
    assert {answer.status_code for answer in answers} == {303}
    assert len({answer.headers["Location"] for answer in answers}) == 1
    assert moved(shop) == [2400]


def test_the_receipt_says_how_often_the_form_came(shop: Shop) -> None:
    form = ready_to_pay(shop.shopper())
    for _ in range(3):
        receipt = form.submit()
    assert "We received this payment form 3 times and charged you once." in receipt.text
    for _ in range(12):
        receipt = form.submit()
    assert "many times" in receipt.text


def test_declined_back_and_another_card(shop: Shop) -> None:
    shopper = shop.shopper()
    form = ready_to_pay(shopper, card_number=DECLINES)
    declined = form.submit()
    assert declined.heading == "Your card was declined"
    again = form.fill(**fields()).submit()
    assert again.url == declined.url
    assert "Only the first was tried; a card entered in it later was not." in again.text
    assert moved(shop) == []
    paid = again.follow("Pay again").submit("Pay", **fields())
    assert paid.heading == "Paid: €24.00"
    assert paid.url != declined.url
    assert moved(shop) == [2400]


def test_two_tabs(shop: Shop) -> None:
    shopper = shop.shopper()
    one, other = ready_to_pay(shopper), checkout_form(shopper)
    assert one.fields["checkout_token"] != other.fields["checkout_token"]
    first, second = one.submit(), other.submit()
    assert first.url == second.url
    assert "This payment holds the order, so the other was not charged." in second.text
    assert moved(shop) == [2400]


def test_pay_in_tab_1_change_the_basket_in_tab_2_pay_there(shop: Shop) -> None:
    shopper = shop.shopper()
    in_tab_1 = ready_to_pay(shopper)
    in_tab_2 = shopper.open(f"/products/{BOWL}")
    first = in_tab_1.submit()
    changed = in_tab_2.submit("Add to basket", quantity=1)
    assert changed.path == "/basket", "what is put in after the payment begins a new order"
    assert "Supper bowl" in changed.text
    assert "Morning mug" not in changed.text
    second = changed.follow("Go to checkout").submit("Pay", **fields())
    assert second.url != first.url
    assert moved(shop) == [2400, 3200]
    assert in_tab_1.submit().url == first.url, "the first form still leads to its own receipt"


def test_change_the_basket_in_tab_2_pay_in_tab_1(shop: Shop) -> None:
    shopper = shop.shopper()
    form = ready_to_pay(shopper)
    fill_basket(shopper, BOWL)
    page = form.submit()
    assert page.status == 409
    assert "Your basket was changed after this page was shown. Nothing was charged." in page.text
    assert "The total was €24.00 when this page was shown and is €56.00 now." in page.text
    assert moved(shop) == []
    assert page.submit("Pay €56.00", **fields()).heading == "Paid: €56.00"
    assert moved(shop) == [5600]


def test_the_basket_leads_to_the_receipt_while_it_is_paid_and_after(shop: Shop) -> None:
    shopper = shop.shopper()
    receipt = ready_to_pay(shopper).submit()
    for path in ("/basket", "/checkout"):
        page = shopper.open(path)
        assert (page.statuses, page.url) == ([303, 200], receipt.url)
    assert receipt.path in shopper.open("/receipts").links.values()


def test_a_form_left_open_while_the_secret_is_rotated(make_shop: Callable[..., Shop]) -> None:
    before = make_shop()
    shopper = before.shopper()
    form = ready_to_pay(shopper)
    after = make_shop(secret_key="the new secret, as long as it must be", secret_key_fallbacks=(SECRET,))
    shopper.client._transport = httpx.WSGITransport(app=after.app)
    receipt = form.submit()
    assert receipt.heading == "Paid: €24.00", "token, CSRF token and cookie of the old secret still count"
    assert "Ada Example" in receipt.text
    assert form.submit().url == receipt.url


def test_without_the_old_secret_nothing_of_it_counts(make_shop: Callable[..., Shop]) -> None:
    shopper = make_shop().shopper()
    form = ready_to_pay(shopper)
    after = make_shop(secret_key="the new secret, as long as it must be")
    shopper.client._transport = httpx.WSGITransport(app=after.app)
    page = form.submit()
    assert page.status == 400
    assert "Nothing was charged." in page.text
    assert moved(after) == []


def test_two_devices(shop: Shop) -> None:
    ready_to_pay(shop.shopper()).submit()
    page = ready_to_pay(shop.shopper()).submit()
    assert page.status == 409
    assert "Just this was ordered with the same e-mail a few minutes ago. Nothing was charged now." in page.text
    assert "€24.00" not in page.root.first("form").text.partition("Pay €24.00")[0], "not told to another browser"  # type: ignore[union-attr]
    assert moved(shop) == [2400]
    paid = page.submit("Pay", **fields(), order_again=True)
    assert paid.heading == "Paid: €24.00"
    assert moved(shop) == [2400, 2400]


def test_the_same_browser_again_is_told_when_and_how_much(shop: Shop) -> None:
    shopper = shop.shopper()
    ready_to_pay(shopper).submit()
    page = ready_to_pay(shopper).submit()
    assert page.status == 409
    assert "You have ordered just this before" in page.text
    assert "for €24.00. Nothing was charged now. Do you want it twice?" in page.text
    again = page.form("Pay").fill(**fields())
    assert again.submit().status == 409, "not before the shopper says so"
    assert again.fill(order_again=True).submit().heading == "Paid: €24.00"
    assert moved(shop) == [2400, 2400]


@pytest.mark.parametrize("field", ["email", "name", "card_number", "card_expiry", "card_cvc", "csrf_token"])
def test_a_claimed_token_leads_to_its_receipt_whatever_else_is_wrong(shop: Shop, field: str) -> None:
    form = ready_to_pay(shop.shopper())
    receipt = form.submit()
    for value in (None, "", "x" * 5000, "\x00"):
        page = form.fill(**{field: value}).submit() if field in form.fields else form.submit()
        assert (page.statuses, page.url) == ([303, 200], receipt.url)
    assert moved(shop) == [2400]


def test_tab_1_paid_then_everything_about_tab_2_is_wrong(shop: Shop) -> None:
    """The token is looked at first: who has paid must never read that nothing was charged."""
    shopper = shop.shopper()
    one, other = ready_to_pay(shopper), checkout_form(shopper)
    receipt = one.submit()
    wrong = {"email": "nobody", "name": "", "card_number": "1", "card_expiry": "01/01", "card_cvc": "?"}
    other.fill(**wrong, csrf_token="forged")
    shop.execute("UPDATE product SET price = price + 1, stock = 0, on_sale = :no", no=False)
    page = other.submit()
    assert (page.statuses, page.url) == ([303, 200], receipt.url)
    assert page.heading == "Paid: €24.00"


def test_another_browser_with_the_form_gets_the_bare_receipt(shop: Shop) -> None:
    form = ready_to_pay(shop.shopper())
    receipt = form.submit()
    answer = shop.shopper().post("/checkout", form.fields)
    assert (answer.status_code, answer.headers["Location"]) == (303, receipt.path)
    bare = shop.shopper().open(receipt.url)
    assert bare.heading == "Paid: €24.00"
    for private in ("Ada", "ada@example.org", "Morning mug", "4242", "Order 1"):
        assert private not in bare.answer.text.replace("/static/", "")


def test_a_slow_bank(shop: Shop) -> None:
    assert ready_to_pay(shop.shopper(), card_number=SLOW).submit().heading == "Paid: €24.00"
    assert moved(shop) == [2400]


def test_after_a_payment_a_new_basket_is_a_new_order(shop: Shop) -> None:
    shopper = shop.shopper()
    first = ready_to_pay(shopper).submit()
    page = fill_basket(shopper, MUG, 3)
    assert "€72.00" in page.text
    second = page.follow("Go to checkout").submit("Pay", **fields())
    assert second.url != first.url
    assert shopper.open(first.url).heading == "Paid: €24.00"
    listed = shopper.open("/receipts")
    assert [path for path in listed.links.values() if path.startswith("/receipts/")] == [second.path, first.path]


def test_cards_that_lose_their_answers_are_charged_once(shop: Shop) -> None:
    """The request itself asks again under the same key, and settles it."""
    for n, card in enumerate(["4000 0000 0006 0022", "4000 0000 0006 0030", "4000 0000 0006 0048"], 1):
        page = ready_to_pay(shop.shopper(), quantity=n, card_number=card).submit()
        assert page.heading.startswith("Paid: "), card
    assert moved(shop) == [2400, 4800, 7200]


def test_a_bank_that_never_answers_is_not_called_declined(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop(gateway_deadline=0.4)
    form = ready_to_pay(shop.shopper(), card_number="4000 0000 0006 0063")
    page = form.submit()
    assert page.heading == "Your payment is still being confirmed"
    assert "Please do not pay again." in page.text
    assert form.submit().url == page.url
    assert moved(shop) == []
    assert shop.charges() == {"in_doubt": 1}
