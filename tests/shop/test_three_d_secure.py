"""3-D Secure: the shopper is at the bank's page, and confirms, refuses, goes back, cancels or leaves."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.gateways.base import Answer, Payment, Unknown
from tests.factories import ASKS_SHOPPER, checkout_form, fill_basket, ready_to_pay
from tests.gateways.bank import at_once
from tests.page import Shopper
from tests.recovery import recover, recover_and_audit
from tests.shops import BANK, Shop

WAITING = "Your bank needs you"


class BankPage:
    """The bank's confirmation page, in the browser that the shop redirected to it."""

    def __init__(self, shop: Shop, response: httpx.Response) -> None:
        self.url = response.headers["Location"]
        assert (response.status_code, self.url.startswith(f"{BANK}/3ds/")) == (303, True), response.text
        self.browser = httpx.Client(transport=httpx.WSGITransport(app=shop.bank), base_url=BANK)

    def decide(self, decision: str = "confirm") -> str:
        """Press "confirm" or "refuse". Return the URL that the bank redirects to."""
        response = self.browser.post(self.url, data={"decision": decision})
        assert response.status_code == 303
        return str(response.headers["Location"])

    def heading(self) -> str:
        """Open the page and return its heading."""
        text = self.browser.get(self.url).text
        return text.partition("<h1>")[2].partition("</h1>")[0]


@pytest.fixture
def shopper(shop: Shop) -> Shopper:
    return shop.shopper()


def pay(shop: Shop, shopper: Shopper, **changes: Any) -> tuple[BankPage, str]:
    """Pay for a mug with a card that needs confirmation. Return the bank's page and the path of the receipt."""
    bank_page = BankPage(shop, ready_to_pay(shopper, card_number=ASKS_SHOPPER, **changes).post())
    newest = shop.value("SELECT receipt_id FROM charge ORDER BY id DESC LIMIT 1")
    return bank_page, f"/receipts/{newest}"


def times_moved(shop: Shop) -> int:
    """Return how often the bank moved money."""
    return len(shop.statement())


def test_a_confirmed_payment_is_charged_once(shop: Shop, shopper: Shopper) -> None:
    bank_page, receipt = pay(shop, shopper)
    assert (bank_page.heading(), times_moved(shop)) == ("Confirm your payment", 0)
    back = shopper.open(bank_page.decide())
    assert (back.path, back.heading) == (receipt, "Paid: €24.00")
    for _ in range(3):
        assert back.reload().heading == "Paid: €24.00"
    assert times_moved(shop) == 1
    recover_and_audit(shop)


def test_a_refused_payment_is_not_charged_and_the_order_can_be_paid_again(shop: Shop, shopper: Shopper) -> None:
    bank_page, receipt = pay(shop, shopper)
    back = shopper.open(bank_page.decide("refuse"))
    assert (back.path, back.heading, times_moved(shop)) == (receipt, "You refused the payment", 0)
    assert "No money was taken." in back.text
    assert checkout_form(shopper).submit().heading == "Paid: €24.00"
    assert shopper.open(receipt).heading == "You refused the payment"
    assert times_moved(shop) == 1
    recover_and_audit(shop)


def test_every_page_of_the_order_leads_to_the_waiting_payment(shop: Shop, shopper: Shopper) -> None:
    """A shopper who left the bank's page can't start a second payment, and can return to the bank's page."""
    bank_page, receipt = pay(shop, shopper)
    for path in ("/basket", "/checkout", receipt):
        page = shopper.open(path)
        assert (page.path, page.heading) == (receipt, WAITING)
        assert "No money has been taken yet." in page.text
    assert shopper.open(receipt).links["Continue at your bank"] == bank_page.url
    bank_page.decide()
    assert shopper.open(receipt).heading == "Paid: €24.00"
    assert times_moved(shop) == 1


def test_the_form_sent_again_after_back_is_the_same_payment(shop: Shop, shopper: Shopper) -> None:
    form = ready_to_pay(shopper, card_number=ASKS_SHOPPER)
    BankPage(shop, form.post())
    for card in (ASKS_SHOPPER, "4242 4242 4242 4242"):
        again = form.fill(card_number=card).submit()
        assert (again.statuses, again.heading) == ([303, 200], WAITING)
    assert (shop.charges(), times_moved(shop)) == ({"requires_action": 1}, 0)


def test_a_payment_confirmed_several_times_is_charged_once(shop: Shop, shopper: Shopper) -> None:
    bank_page, receipt = pay(shop, shopper)
    at_once(*[bank_page.decide] * 4)
    assert bank_page.heading() == "Payment confirmed"
    bank_page.decide("refuse")
    assert (bank_page.heading(), times_moved(shop)) == ("Payment confirmed", 1)
    assert shopper.open(receipt).heading == "Paid: €24.00"
    recover_and_audit(shop)


def test_a_refused_payment_cannot_be_confirmed_after_back(shop: Shop, shopper: Shopper) -> None:
    bank_page, receipt = pay(shop, shopper)
    bank_page.decide("refuse")
    bank_page.decide("confirm")
    assert (bank_page.heading(), times_moved(shop)) == ("Payment refused", 0)
    assert shopper.open(receipt).heading == "You refused the payment"
    recover_and_audit(shop)


def two_tabs(shop: Shop, shopper: Shopper) -> tuple[Any, Any]:
    """Return two forms for the same basket with a token each, filled in with a card that needs confirmation."""
    fill_basket(shopper)
    return checkout_form(shopper, card_number=ASKS_SHOPPER), checkout_form(shopper, card_number=ASKS_SHOPPER)


def test_two_tabs_never_get_two_pages_of_the_bank(shop: Shop, shopper: Shopper) -> None:
    """Without this, both tabs could be confirmed at the bank, and the order would be charged twice."""
    first, second = two_tabs(shop, shopper)
    bank_page = BankPage(shop, first.post())
    other = second.submit()
    assert (other.statuses, other.heading) == ([303, 200], WAITING)
    assert other.links["Continue at your bank"] == bank_page.url
    at_once(bank_page.decide, bank_page.decide)
    assert {other.reload().heading, second.submit().heading, first.submit().heading} == {"Paid: €24.00"}
    assert (shop.charges(), times_moved(shop)) == ({"succeeded": 1}, 1)
    recover_and_audit(shop)


@pytest.mark.slow
def test_two_tabs_at_the_same_time_get_one_page_of_the_bank(shop: Shop, shopper: Shopper) -> None:
    first, second = two_tabs(shop, shopper)
    shopper_of_second = shop.shopper(like=shopper)
    responses = at_once(first.post, lambda: shopper_of_second.post(second.action, second.fields))
    locations = {response.headers["Location"] for response in responses}
    assert [response.status_code for response in responses] == [303, 303]
    assert len([location for location in locations if location.startswith(BANK)]) == 1
    assert shop.charges() == {"requires_action": 1}


def test_the_second_tab_can_pay_after_the_first_cancelled(shop: Shop, shopper: Shopper) -> None:
    first, second = two_tabs(shop, shopper)
    bank_page = BankPage(shop, first.post())
    second.submit().submit("Give this payment up")
    paid = second.fill(card_number="4242 4242 4242 4242").submit()
    assert paid.heading == "Paid: €24.00"
    bank_page.decide()
    assert (bank_page.heading(), times_moved(shop)) == ("Payment cancelled", 1)
    recover_and_audit(shop)


def test_a_cancelled_payment_can_never_be_charged(shop: Shop, shopper: Shopper) -> None:
    bank_page, receipt = pay(shop, shopper)
    cancelled = shopper.open(receipt).submit("Give this payment up")
    assert (cancelled.statuses, cancelled.heading) == ([303, 200], "Nothing was charged")
    assert "This payment was given up." in cancelled.text
    bank_page.decide()
    assert (bank_page.heading(), times_moved(shop)) == ("Payment cancelled", 0)
    assert shopper.open(receipt).heading == "Nothing was charged"
    assert checkout_form(shopper).submit().heading == "Paid: €24.00"
    recover_and_audit(shop)


def test_a_payment_cancelled_after_its_confirmation_stays_paid(shop: Shop, shopper: Shopper) -> None:
    """The bank decides which of the two came first."""
    bank_page, receipt = pay(shop, shopper)
    page = shopper.open(receipt)
    bank_page.decide()
    assert page.submit("Give this payment up").heading == "Paid: €24.00"
    assert times_moved(shop) == 1
    recover_and_audit(shop)


def test_cancelling_while_the_bank_is_unreachable_changes_nothing(shop: Shop, shopper: Shopper) -> None:
    bank_page, receipt = pay(shop, shopper)
    page = shopper.open(receipt)
    shop.gateways.use(SilentBank())  # type: ignore[arg-type]
    refused = page.submit("Give this payment up")
    assert (refused.status, refused.heading) == (503, WAITING)
    assert "We do not know yet whether this payment could be given up." in refused.text
    shop.gateways.use(shop.gateway)
    bank_page.decide()
    assert shopper.open(receipt).heading == "Paid: €24.00"


class SilentBank:
    """A gateway whose bank never responds."""

    name, account, takes_cards, page_origin = "sandbox", "sandbox", True, BANK

    def lookup(self, payment: Payment, timeout: float) -> Answer | None:
        raise Unknown("the bank did not answer in time")

    cancel = lookup


def test_only_the_buyer_can_continue_or_cancel(shop: Shop, shopper: Shopper) -> None:
    bank_page, receipt = pay(shop, shopper)
    stranger = shop.shopper()
    page = stranger.open(receipt)
    assert page.heading == "Waiting for the bank"
    assert bank_page.url not in page.response.text
    assert "Give this payment up" not in page.text
    mine = shopper.open(receipt).form("Give this payment up")
    assert stranger.post(f"{receipt}/cancel", mine.fields).status_code == 403
    assert shopper.post(f"{receipt}/cancel", {}).status_code == 400
    assert shopper.post(f"{receipt}/give-up", {}).status_code == 400, "the earlier name of the view"
    assert shop.charges() == {"requires_action": 1}


def test_a_payment_that_is_not_confirmed_in_time_is_cancelled(shop: Shop, shopper: Shopper) -> None:
    bank_page, receipt = pay(shop, shopper)
    recover(shop, window=3600.0)
    assert shopper.open(receipt).heading == WAITING
    shop.execute("UPDATE charge SET created_at = :earlier", earlier=datetime.now(UTC) - timedelta(minutes=61))
    recover(shop, window=3600.0)
    page = shopper.open(receipt)
    assert page.heading == "Nothing was charged"
    assert "was not confirmed in time. No money was taken." in page.text
    bank_page.decide()
    assert (bank_page.heading(), times_moved(shop)) == ("Payment cancelled", 0)
    assert checkout_form(shopper).submit().heading == "Paid: €24.00"
    recover_and_audit(shop)


def test_recovery_finds_a_confirmation_whose_tab_was_closed(shop: Shop, shopper: Shopper) -> None:
    bank_page, receipt = pay(shop, shopper)
    bank_page.decide()
    recover(shop)
    assert shop.charges() == {"succeeded": 1}
    assert shopper.open(receipt).heading == "Paid: €24.00"


FORGED_QUERIES = ["?status=succeeded", "?status=declined&amount=1", "?payment_intent=x&redirect_status=succeeded"]


@pytest.mark.parametrize("query", FORGED_QUERIES)
def test_the_query_of_a_return_link_is_not_trusted(shop: Shop, shopper: Shopper, query: str) -> None:
    """The outcome comes from the bank, which is asked, and never from the URL."""
    bank_page, receipt = pay(shop, shopper)
    assert shopper.open(receipt + query).heading == WAITING
    bank_page.decide("refuse")
    assert shopper.open(receipt + query).heading == "You refused the payment"
    assert (shop.charges(), times_moved(shop)) == ({"declined": 1}, 0)


def test_a_return_link_opened_again_shows_the_same_outcome(shop: Shop, shopper: Shopper) -> None:
    bank_page, _ = pay(shop, shopper)
    link = bank_page.decide()
    assert {shopper.open(link).heading for _ in range(3)} == {"Paid: €24.00"}
    assert {shop.shopper().open(link).heading for _ in range(2)} == {"Paid: €24.00"}
    assert (shop.value("SELECT count(*) FROM ledger_entry"), times_moved(shop)) == (2, 1)


def test_the_return_link_of_another_payment_pays_nothing(shop: Shop, shopper: Shopper) -> None:
    """Two payments wait. One is confirmed, and its link is opened by both shoppers."""
    _, receipt = pay(shop, shopper)
    other = shop.shopper()
    their_bank_page, their_receipt = pay(shop, other, email="grace@example.org")
    link = their_bank_page.decide()
    assert link.endswith(their_receipt)
    assert shopper.open(link).heading == "Waiting for the bank"
    assert shopper.open(receipt).heading == WAITING
    assert other.open(their_receipt).heading == "Paid: €24.00"
    assert times_moved(shop) == 1


def test_a_stranger_who_opens_the_link_first_changes_nothing(shop: Shop, shopper: Shopper) -> None:
    bank_page, receipt = pay(shop, shopper)
    bank_page.decide()
    assert shop.shopper().open(receipt).heading == "Waiting for the bank"
    assert shopper.open(receipt).heading == "Paid: €24.00"


def test_unknown_return_links_are_404s(shop: Shop, shopper: Shopper) -> None:
    pay(shop, shopper)
    assert {shopper.open(f"/receipts/{unknown}").status for unknown in (uuid4(), "1", "%00", uuid4().hex)} == {404}
    assert shop.charges() == {"requires_action": 1}
