"""Places at the gateway: without a free one, the gateway is not asked, and the shopper reads that nothing was taken."""

from collections import Counter
from threading import Barrier

import httpx
import pytest

from app.places import GatewayPlaces, NoPlace
from tests.factories import ASKS_SHOPPER, DECLINES, MUG, checkout_form, fill_basket, ready_to_pay
from tests.gateways.bank import at_once
from tests.places import all_taken, places_of
from tests.recovery import recover_and_audit
from tests.shops import Shop


def test_of_many_requests_at_once_as_many_as_there_are_places_get_one() -> None:
    """Each that got one holds it until every other has been refused."""
    places, decided = GatewayPlaces(5), Barrier(20, timeout=20)

    def enter() -> None:
        try:
            with places.take():
                decided.wait()
        except NoPlace:
            decided.wait()
            raise

    results = at_once(*[enter] * 20)
    assert Counter(map(type, results)) == {type(None): 5, NoPlace: 15}
    assert places.waiting == 0


@pytest.mark.parametrize(("threads", "places"), [(1, 1), (2, 1), (4, 3), (8, 6), (64, 48)])
def test_a_quarter_of_the_threads_never_waits_for_a_gateway(shop: Shop, threads: int, places: int) -> None:
    assert places_of(shop.another(gunicorn_threads=threads)).limit == places


def test_a_payment_without_a_place_keeps_its_form_and_takes_no_money(shop: Shop) -> None:
    form = ready_to_pay(shop.shopper(), email="eve@example.org")
    with all_taken(shop):
        page = form.submit()
    assert (page.status, page.response.headers["Retry-After"]) == (503, "60")
    assert "This try took no money. Please press Pay again in a minute." in page.text
    again = page.form("Pay")
    assert again.fields["checkout_token"] == form.fields["checkout_token"]
    assert (again.fields["email"], again.fields["card_number"]) == ("eve@example.org", "")
    assert (shop.charges(), shop.statement(), shop.stock(MUG)) == ({}, [], 200)
    assert form.submit().heading == "Paid: €24.00"
    recover_and_audit(shop)


def test_what_is_wrong_with_a_form_is_said_before_a_place_is_looked_for(shop: Shop) -> None:
    form = ready_to_pay(shop.shopper()).fill(email="nobody")
    with all_taken(shop):
        assert form.submit().status == 422


def test_every_copy_of_a_claimed_form_leads_to_its_receipt_without_a_place(shop: Shop) -> None:
    """Also a second tab's form for the same order."""
    shopper = shop.shopper()
    form, second = ready_to_pay(shopper), checkout_form(shopper)
    paid = form.submit()
    with all_taken(shop):
        for copy in (form, second):
            response = copy.post()
            assert (response.status_code, response.headers["Location"]) == (303, paid.path)


def test_each_place_is_given_back_however_the_payment_ends(shop: Shop) -> None:
    places = places_of(shop)
    ready_to_pay(shop.shopper()).submit()
    ready_to_pay(shop.shopper(), card_number=DECLINES).submit()
    sold_out = ready_to_pay(shop.shopper())
    shop.execute("UPDATE product SET stock = 0")
    assert sold_out.submit().status == 409
    assert places.waiting == 0


def test_a_receipt_without_a_place_shows_what_is_known(shop: Shop) -> None:
    shopper = shop.shopper()
    bank_page = ready_to_pay(shopper, card_number=ASKS_SHOPPER).post().headers["Location"]
    receipt = f"/receipts/{shop.value('SELECT receipt_id FROM charge')}"
    httpx.Client(transport=httpx.WSGITransport(app=shop.bank)).post(bank_page, data={"decision": "confirm"})
    with all_taken(shop):
        assert shopper.open(receipt).heading == "Your bank needs you"
    assert shopper.open(receipt).heading == "Paid: €24.00"


def test_a_payment_is_not_cancelled_without_a_place(shop: Shop) -> None:
    shopper = shop.shopper()
    ready_to_pay(shopper, card_number=ASKS_SHOPPER).post()
    page = shopper.open(f"/receipts/{shop.value('SELECT receipt_id FROM charge')}")
    with all_taken(shop):
        refused = page.submit("Give this payment up")
        assert (refused.status, refused.heading) == (503, "Your bank needs you")
    assert shop.charges() == {"requires_action": 1}
    assert refused.submit("Give this payment up").heading == "Nothing was charged"
    recover_and_audit(shop)


@pytest.mark.parametrize("path", ["/", "/basket", "/checkout", "/receipts", "/healthz", "/readyz"])
def test_pages_need_no_place(shop: Shop, path: str) -> None:
    shopper = shop.shopper()
    fill_basket(shopper)
    with all_taken(shop):
        assert shopper.client.get(path).status_code == 200
