"""Limits against card testing. Only declined cards are counted, per browser and per address."""

from app.limiter import count_decline
from app.shop import texts
from tests.factories import DECLINES, NO_FUNDS, checkout_form, fields, fill_basket
from tests.page import Shopper
from tests.shops import Shop


def decline(shopper: Shopper, times: int) -> list[int]:
    """Pay with cards that are declined. Return the status of each page."""
    return [checkout_form(shopper, card_number=(DECLINES, NO_FUNDS)[n % 2]).submit().status for n in range(times)]


def test_a_browser_is_refused_after_ten_declines(shop: Shop) -> None:
    shopper = shop.shopper()
    fill_basket(shopper)
    assert decline(shopper, 10) == [200] * 10
    form = checkout_form(shopper)
    page = form.submit()
    assert page.status == 429
    assert texts.TOO_MANY_DECLINES in page.text
    assert page.form("Pay").fields["checkout_token"] == form.fields["checkout_token"]
    assert shop.charges() == {"declined": 10}
    assert shop.statement() == []


def test_another_browser_is_not_refused(shop: Shop) -> None:
    shopper, other = shop.shopper(), shop.shopper()
    fill_basket(shopper)
    decline(shopper, 10)
    fill_basket(other)
    assert checkout_form(other).submit().heading == "Paid: €24.00"


def test_an_address_is_refused_after_a_hundred_declines(shop: Shop) -> None:
    """Each decline comes from a new browser, so the limit per browser is never reached."""
    with shop.app.test_request_context(environ_base={"REMOTE_ADDR": "198.51.100.7"}):
        for _ in range(100):
            count_decline()
    same_address, other_address = shop.shopper(address="198.51.100.7"), shop.shopper(address="198.51.100.8")
    for shopper, status in ((same_address, 429), (other_address, 200)):
        fill_basket(shopper)
        assert checkout_form(shopper, card_number=DECLINES).submit().status == status


def test_twins_and_successful_payments_are_not_counted(shop: Shop) -> None:
    shopper = shop.shopper()
    for n in range(12):
        fill_basket(shopper)
        form = checkout_form(shopper, email=f"a{n}@example.org")
        assert {form.post().status_code for _ in range(3)} == {303}
    assert len(shop.statement()) == 12


def test_a_refused_browser_still_reaches_its_receipt(shop: Shop) -> None:
    shopper = shop.shopper()
    fill_basket(shopper)
    paid_form = checkout_form(shopper)
    paid = paid_form.submit()
    fill_basket(shopper, quantity=2)
    decline(shopper, 10)
    assert paid_form.fill(**fields()).submit().url == paid.url
