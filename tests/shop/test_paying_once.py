"""A payment form that is sent twice, late or from two places is charged once, and always leads to its receipt."""

from collections.abc import Callable

import httpx
import pytest

from tests.factories import BOWL, DECLINES, MUG, SECRET, SLOW, checkout_form, fields, fill_basket, ready_to_pay
from tests.shops import Shop


def amounts_moved(shop: Shop) -> list[int]:
    """Return the amount of each entry of the bank's statement, in minor units."""
    return [entry.amount for entry in shop.statement()]


def test_reloading_the_receipt_charges_nothing(shop: Shop) -> None:
    receipt = ready_to_pay(shop.shopper()).submit()
    for _ in range(3):
        again = receipt.reload()
        assert (again.status, again.heading, again.url) == (200, receipt.heading, receipt.url)
    assert amounts_moved(shop) == [2400]


def test_a_form_sent_again_after_back_leads_to_the_same_receipt(shop: Shop) -> None:
    """Back shows the same form with the same token, from the browser's memory."""
    form = ready_to_pay(shop.shopper())
    first = form.submit()
    second = form.fill(card_number=DECLINES, name="Somebody Else").submit()
    assert (second.statuses, second.url) == ([303, 200], first.url)
    assert second.heading == "Paid: €24.00"
    assert amounts_moved(shop) == [2400]


def test_every_copy_of_the_form_gets_the_same_303(shop: Shop) -> None:
    form = ready_to_pay(shop.shopper())
    responses = [form.post() for _ in range(4)]
    assert {response.status_code for response in responses} == {303}
    assert len({response.headers["Location"] for response in responses}) == 1
    assert amounts_moved(shop) == [2400]


def test_the_receipt_says_how_often_the_form_arrived(shop: Shop) -> None:
    form = ready_to_pay(shop.shopper())
    for _ in range(3):
        receipt = form.submit()
    assert "We received this payment form 3 times and charged you once." in receipt.text
    for _ in range(12):
        receipt = form.submit()
    assert "many times" in receipt.text


def test_a_declined_form_sent_again_with_another_card_is_not_tried_again(shop: Shop) -> None:
    shopper = shop.shopper()
    form = ready_to_pay(shopper, card_number=DECLINES)
    declined = form.submit()
    assert declined.heading == "Your card was declined"
    again = form.fill(**fields()).submit()
    assert again.url == declined.url
    assert "Only the first was tried; a card entered in it later was not." in again.text
    assert amounts_moved(shop) == []
    paid = again.follow("Pay again").submit("Pay", **fields())
    assert paid.heading == "Paid: €24.00"
    assert paid.url != declined.url
    assert amounts_moved(shop) == [2400]


def test_two_tabs_lead_to_one_receipt(shop: Shop) -> None:
    shopper = shop.shopper()
    in_tab_1, in_tab_2 = ready_to_pay(shopper), checkout_form(shopper)
    assert in_tab_1.fields["checkout_token"] != in_tab_2.fields["checkout_token"]
    first, second = in_tab_1.submit(), in_tab_2.submit()
    assert first.url == second.url
    assert "This payment holds the order, so the other was not charged." in second.text
    assert amounts_moved(shop) == [2400]


def test_a_product_added_after_the_payment_begins_a_new_order(shop: Shop) -> None:
    shopper = shop.shopper()
    in_tab_1 = ready_to_pay(shopper)
    in_tab_2 = shopper.open(f"/products/{BOWL}")
    first = in_tab_1.submit()
    changed = in_tab_2.submit("Add to basket", quantity=1)
    assert changed.path == "/basket", "the product was added to a new basket"
    assert "Supper bowl" in changed.text
    assert "Morning mug" not in changed.text
    second = changed.follow("Go to checkout").submit("Pay", **fields())
    assert second.url != first.url
    assert amounts_moved(shop) == [2400, 3200]
    assert in_tab_1.submit().url == first.url, "the first form still leads to its own receipt"


def test_a_form_of_a_changed_basket_charges_nothing(shop: Shop) -> None:
    shopper = shop.shopper()
    form = ready_to_pay(shopper)
    fill_basket(shopper, BOWL)
    page = form.submit()
    assert page.status == 409
    assert "Your basket was changed after this page was shown. Nothing was charged." in page.text
    assert "The total was €24.00 when this page was shown and is €56.00 now." in page.text
    assert amounts_moved(shop) == []
    assert page.submit("Pay €56.00", **fields()).heading == "Paid: €56.00"
    assert amounts_moved(shop) == [5600]


def test_the_basket_of_a_paid_order_redirects_to_the_receipt(shop: Shop) -> None:
    shopper = shop.shopper()
    receipt = ready_to_pay(shopper).submit()
    for path in ("/basket", "/checkout"):
        page = shopper.open(path)
        assert (page.statuses, page.url) == ([303, 200], receipt.url)
    assert receipt.path in shopper.open("/receipts").links.values()


def test_an_open_form_stays_valid_when_the_secret_is_rotated(make_shop: Callable[..., Shop]) -> None:
    before = make_shop()
    shopper = before.shopper()
    form = ready_to_pay(shopper)
    after = make_shop(secret_key="the new secret, as long as it must be", secret_key_fallbacks=(SECRET,))
    shopper.client._transport = httpx.WSGITransport(app=after.app)
    receipt = form.submit()
    assert receipt.heading == "Paid: €24.00", "token, CSRF token and cookie are accepted with the old secret"
    assert "Ada Example" in receipt.text
    assert form.submit().url == receipt.url


def test_an_open_form_is_refused_if_its_secret_is_gone(make_shop: Callable[..., Shop]) -> None:
    shopper = make_shop().shopper()
    form = ready_to_pay(shopper)
    after = make_shop(secret_key="the new secret, as long as it must be")
    shopper.client._transport = httpx.WSGITransport(app=after.app)
    page = form.submit()
    assert page.status == 400
    assert "This try took no money." in page.text
    assert amounts_moved(after) == []


def test_the_same_order_from_another_device_needs_a_confirmation(shop: Shop) -> None:
    ready_to_pay(shop.shopper()).submit()
    page = ready_to_pay(shop.shopper()).submit()
    assert page.status == 409
    assert "Just this was ordered before with the same e-mail address. Nothing was charged now." in page.text
    form = page.root.first("form")
    assert form is not None
    assert "€24.00" not in form.text.partition("Pay €24.00")[0], "another browser does not learn the earlier total"
    assert amounts_moved(shop) == [2400]
    paid = page.submit("Pay", **fields(), order_again=True)
    assert paid.heading == "Paid: €24.00"
    assert amounts_moved(shop) == [2400, 2400]


def test_the_same_order_from_the_same_browser_shows_the_earlier_payment(shop: Shop) -> None:
    shopper = shop.shopper()
    ready_to_pay(shopper).submit()
    page = ready_to_pay(shopper).submit()
    assert page.status == 409
    assert "You have ordered just this before" in page.text
    assert "for €24.00. Nothing was charged now. Do you want it twice?" in page.text
    again = page.form("Pay").fill(**fields())
    assert again.submit().status == 409, "it needs the confirmation each time"
    assert again.fill(order_again=True).submit().heading == "Paid: €24.00"
    assert amounts_moved(shop) == [2400, 2400]


@pytest.mark.parametrize("field", ["email", "name", "card_number", "card_expiry", "card_cvc", "csrf_token"])
def test_a_claimed_token_leads_to_its_receipt_if_another_field_is_invalid(shop: Shop, field: str) -> None:
    form = ready_to_pay(shop.shopper())
    receipt = form.submit()
    for value in (None, "", "x" * 5000, "\x00"):
        page = form.fill(**{field: value}).submit() if field in form.fields else form.submit()
        assert (page.statuses, page.url) == ([303, 200], receipt.url)
    assert amounts_moved(shop) == [2400]


def test_an_invalid_form_in_tab_2_leads_to_the_receipt_of_tab_1(shop: Shop) -> None:
    """The token is checked first: a shopper who has paid must never read that nothing was charged."""
    shopper = shop.shopper()
    in_tab_1, in_tab_2 = ready_to_pay(shopper), checkout_form(shopper)
    receipt = in_tab_1.submit()
    invalid = {"email": "nobody", "name": "", "card_number": "1", "card_expiry": "01/01", "card_cvc": "?"}
    in_tab_2.fill(**invalid, csrf_token="forged")
    shop.execute("UPDATE product SET price = price + 1, stock = 0, on_sale = :no", no=False)
    page = in_tab_2.submit()
    assert (page.statuses, page.url) == ([303, 200], receipt.url)
    assert page.heading == "Paid: €24.00"


def test_another_browser_sees_the_receipt_without_personal_data(shop: Shop) -> None:
    form = ready_to_pay(shop.shopper())
    receipt = form.submit()
    response = shop.shopper().post("/checkout", form.fields)
    assert (response.status_code, response.headers["Location"]) == (303, receipt.path)
    public = shop.shopper().open(receipt.url)
    assert public.heading == "Paid: €24.00"
    for private in ("Ada", "ada@example.org", "Morning mug", "4242", "Order 1"):
        assert private not in public.response.text.replace("/static/", "")


def test_a_slow_bank_charges_once(shop: Shop) -> None:
    assert ready_to_pay(shop.shopper(), card_number=SLOW).submit().heading == "Paid: €24.00"
    assert amounts_moved(shop) == [2400]


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


def test_cards_whose_answers_are_lost_are_charged_once(shop: Shop) -> None:
    """The request asks again under the same key and gets the outcome."""
    for n, card in enumerate(["4000 0000 0006 0022", "4000 0000 0006 0030", "4000 0000 0006 0048"], 1):
        page = ready_to_pay(shop.shopper(), quantity=n, card_number=card).submit()
        assert page.heading.startswith("Paid: "), card
    assert amounts_moved(shop) == [2400, 4800, 7200]


def test_a_charge_without_an_answer_is_in_doubt_not_declined(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop(gateway_deadline=0.4)
    form = ready_to_pay(shop.shopper(), card_number="4000 0000 0006 0063")
    page = form.submit()
    assert page.heading == "Your payment is still being confirmed"
    assert "Please do not pay again." in page.text
    assert form.submit().url == page.url
    assert amounts_moved(shop) == []
    assert shop.charges() == {"in_doubt": 1}
