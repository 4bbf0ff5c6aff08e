"""3-D Secure: the shopper at the bank's own page, and everything that people do there but confirm once."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.gateways.base import Answer, Payment, Unknown
from tests.factories import ASKS, checkout_form, fill_basket, ready_to_pay
from tests.gateways.bank import at_once
from tests.healing import heal, recover
from tests.page import Shopper
from tests.shops import BANK, Shop

WAITING = "Your bank needs you"


class AtBank:
    """The browser, sent by the shop to the bank's page: what it sees and does there."""

    def __init__(self, shop: Shop, answer: httpx.Response) -> None:
        self.url = answer.headers["Location"]
        assert (answer.status_code, self.url.startswith(f"{BANK}/3ds/")) == (303, True), answer.text
        self.browser = httpx.Client(transport=httpx.WSGITransport(app=shop.bank), base_url=BANK)

    def decide(self, decision: str = "confirm") -> str:
        """Press a button; the address that the bank leads on to."""
        answer = self.browser.post(self.url, data={"decision": decision})
        assert answer.status_code == 303
        return str(answer.headers["Location"])

    def reads(self) -> str:
        """The page's heading."""
        text = self.browser.get(self.url).text
        return text.partition("<h1>")[2].partition("</h1>")[0]


@pytest.fixture
def shopper(shop: Shop) -> Shopper:
    return shop.shopper()


def pay(shop: Shop, shopper: Shopper, **changes: Any) -> tuple[AtBank, str]:
    """Buy a mug with the card that asks: at the bank's page now, and the way back."""
    at_bank = AtBank(shop, ready_to_pay(shopper, card_number=ASKS, **changes).post())
    newest = shop.value("SELECT receipt_id FROM charge ORDER BY id DESC LIMIT 1")
    return at_bank, f"/receipts/{newest}"


def moves(shop: Shop) -> int:
    return len(shop.statement())


def test_who_confirms_has_paid_once(shop: Shop, shopper: Shopper) -> None:
    at_bank, receipt = pay(shop, shopper)
    assert (at_bank.reads(), moves(shop)) == ("Confirm your payment", 0)
    back = shopper.open(at_bank.decide())
    assert (back.path, back.heading) == (receipt, "Paid: €24.00")
    for _ in range(3):
        assert back.reload().heading == "Paid: €24.00"
    assert moves(shop) == 1
    heal(shop)


def test_who_refuses_has_not_and_may_pay_otherwise(shop: Shop, shopper: Shopper) -> None:
    at_bank, receipt = pay(shop, shopper)
    back = shopper.open(at_bank.decide("refuse"))
    assert (back.path, back.heading, moves(shop)) == (receipt, "You refused the payment", 0)
    assert "No money was taken." in back.text
    assert checkout_form(shopper).submit().heading == "Paid: €24.00"
    assert shopper.open(receipt).heading == "You refused the payment"
    assert moves(shop) == 1
    heal(shop)


def test_who_walks_away_finds_the_way_back(shop: Shop, shopper: Shopper) -> None:
    """Every door leads to the payment that waits, never to a second one; and from there on to the bank."""
    at_bank, receipt = pay(shop, shopper)
    for door in ("/basket", "/checkout", receipt):
        page = shopper.open(door)
        assert (page.path, page.heading) == (receipt, WAITING)
        assert "No money has been taken yet." in page.text
    assert shopper.open(receipt).links["Continue at your bank"] == at_bank.url
    at_bank.decide()
    assert shopper.open(receipt).heading == "Paid: €24.00"
    assert moves(shop) == 1


def test_back_to_the_form_and_pay_again_is_the_same_payment(shop: Shop, shopper: Shopper) -> None:
    form = ready_to_pay(shopper, card_number=ASKS)
    AtBank(shop, form.post())
    for card in (ASKS, "4242 4242 4242 4242"):
        again = form.fill(card_number=card).submit()
        assert (again.statuses, again.heading) == ([303, 200], WAITING)
    assert (shop.charges(), moves(shop)) == ({"requires_action": 1}, 0)


def test_a_double_click_and_back_at_the_bank_take_the_money_once(shop: Shop, shopper: Shopper) -> None:
    at_bank, receipt = pay(shop, shopper)
    at_once(*[at_bank.decide] * 4)
    assert at_bank.reads() == "Payment confirmed"
    at_bank.decide("refuse")
    assert (at_bank.reads(), moves(shop)) == ("Payment confirmed", 1)
    assert shopper.open(receipt).heading == "Paid: €24.00"
    heal(shop)


def test_who_refused_cannot_confirm_with_back(shop: Shop, shopper: Shopper) -> None:
    at_bank, receipt = pay(shop, shopper)
    at_bank.decide("refuse")
    at_bank.decide("confirm")
    assert (at_bank.reads(), moves(shop)) == ("Payment refused", 0)
    assert shopper.open(receipt).heading == "You refused the payment"
    heal(shop)


def two_tabs(shop: Shop, shopper: Shopper) -> tuple[Any, Any]:
    """Two forms of the same basket, each with a token of its own, both filled in with the card that asks."""
    fill_basket(shopper)
    return checkout_form(shopper, card_number=ASKS), checkout_form(shopper, card_number=ASKS)


def test_two_tabs_never_get_two_pages_of_the_bank(shop: Shop, shopper: Shopper) -> None:
    """The classic double charge: both tabs at 3-D Secure, both confirmed."""
    first, second = two_tabs(shop, shopper)
    at_bank = AtBank(shop, first.post())
    other = second.submit()
    assert (other.statuses, other.heading) == ([303, 200], WAITING)
    assert other.links["Continue at your bank"] == at_bank.url
    at_once(at_bank.decide, at_bank.decide)
    assert {other.reload().heading, second.submit().heading, first.submit().heading} == {"Paid: €24.00"}
    assert (shop.charges(), moves(shop)) == ({"succeeded": 1}, 1)
    heal(shop)


@pytest.mark.slow
def test_two_tabs_at_the_same_moment_have_one_page_of_the_bank(shop: Shop, shopper: Shopper) -> None:
    first, second = two_tabs(shop, shopper)
    shopper_of_second = shop.shopper(like=shopper)
    answers = at_once(first.post, lambda: shopper_of_second.post(second.action, second.fields))
    places = {answer.headers["Location"] for answer in answers}
    assert [answer.status_code for answer in answers] == [303, 303]
    assert len([place for place in places if place.startswith(BANK)]) == 1
    assert shop.charges() == {"requires_action": 1}


def test_the_second_tab_may_pay_after_the_first_gave_up(shop: Shop, shopper: Shopper) -> None:
    first, second = two_tabs(shop, shopper)
    at_bank = AtBank(shop, first.post())
    second.submit().submit("Give this payment up")
    paid = second.fill(card_number="4242 4242 4242 4242").submit()
    assert paid.heading == "Paid: €24.00"
    at_bank.decide()
    assert (at_bank.reads(), moves(shop)) == ("Payment cancelled", 1)
    heal(shop)


def test_who_gives_up_cannot_be_charged_any_more(shop: Shop, shopper: Shopper) -> None:
    at_bank, receipt = pay(shop, shopper)
    given_up = shopper.open(receipt).submit("Give this payment up")
    assert (given_up.statuses, given_up.heading) == ([303, 200], "Nothing was charged")
    assert "You gave this payment up." in given_up.text
    at_bank.decide()
    assert (at_bank.reads(), moves(shop)) == ("Payment cancelled", 0)
    assert shopper.open(receipt).heading == "Nothing was charged"
    assert checkout_form(shopper).submit().heading == "Paid: €24.00"
    heal(shop)


def test_who_gives_up_what_is_confirmed_already_has_paid(shop: Shop, shopper: Shopper) -> None:
    """The bank says which of the two won."""
    at_bank, receipt = pay(shop, shopper)
    page = shopper.open(receipt)
    at_bank.decide()
    assert page.submit("Give this payment up").heading == "Paid: €24.00"
    assert moves(shop) == 1
    heal(shop)


def test_giving_up_while_the_bank_is_away_changes_nothing(shop: Shop, shopper: Shopper) -> None:
    at_bank, receipt = pay(shop, shopper)
    page = shopper.open(receipt)
    shop.gateways.use(Away())  # type: ignore[arg-type]
    assert page.submit("Give this payment up").heading == WAITING
    shop.gateways.use(shop.gateway)
    at_bank.decide()
    assert shopper.open(receipt).heading == "Paid: €24.00"


class Away:
    """A bank that answers nothing."""

    name, account, takes_cards, page_origin = "sandbox", "sandbox", True, BANK

    def lookup(self, payment: Payment, timeout: float) -> Answer | None:
        raise Unknown("the bank did not answer in time")

    cancel = lookup


def test_only_the_buyer_goes_on_or_gives_up(shop: Shop, shopper: Shopper) -> None:
    at_bank, receipt = pay(shop, shopper)
    stranger = shop.shopper()
    page = stranger.open(receipt)
    assert page.heading == "Waiting for the bank"
    assert at_bank.url not in page.answer.text
    assert "Give this payment up" not in page.text
    mine = shopper.open(receipt).form("Give this payment up")
    assert stranger.post(f"{receipt}/cancel", mine.fields).status_code == 403
    assert shopper.post(f"{receipt}/cancel", {}).status_code == 400
    assert shopper.post(f"{receipt}/give-up", {}).status_code == 400, "the name of earlier versions"
    assert shop.charges() == {"requires_action": 1}


def test_a_payment_left_alone_ends_after_its_time(shop: Shop, shopper: Shopper) -> None:
    at_bank, receipt = pay(shop, shopper)
    recover(shop, window=3600.0)
    assert shopper.open(receipt).heading == WAITING
    shop.execute("UPDATE charge SET created_at = :earlier", earlier=datetime.now(UTC) - timedelta(minutes=61))
    recover(shop, window=3600.0)
    page = shopper.open(receipt)
    assert page.heading == "Nothing was charged"
    assert "was not confirmed in time. No money was taken." in page.text
    at_bank.decide()
    assert (at_bank.reads(), moves(shop)) == ("Payment cancelled", 0)
    assert checkout_form(shopper).submit().heading == "Paid: €24.00"
    heal(shop)


def test_a_closed_tab_after_confirming_is_found_by_recovery(shop: Shop, shopper: Shopper) -> None:
    at_bank, receipt = pay(shop, shopper)
    at_bank.decide()
    recover(shop)
    assert shop.charges() == {"succeeded": 1}
    assert shopper.open(receipt).heading == "Paid: €24.00"


FORGED = ["?status=succeeded", "?status=declined&amount=1", "?payment_intent=x&redirect_status=succeeded"]


@pytest.mark.parametrize("words", FORGED)
def test_a_return_link_says_nothing_by_itself(shop: Shop, shopper: Shopper, words: str) -> None:
    """Coming back changes nothing: the bank is asked, whatever the address claims."""
    at_bank, receipt = pay(shop, shopper)
    assert shopper.open(receipt + words).heading == WAITING
    at_bank.decide("refuse")
    assert shopper.open(receipt + words).heading == "You refused the payment"
    assert (shop.charges(), moves(shop)) == ({"declined": 1}, 0)


def test_a_return_link_that_is_replayed_tells_the_same(shop: Shop, shopper: Shopper) -> None:
    at_bank, _receipt = pay(shop, shopper)
    link = at_bank.decide()
    assert {shopper.open(link).heading for _ in range(3)} == {"Paid: €24.00"}
    assert {shop.shopper().open(link).heading for _ in range(2)} == {"Paid: €24.00"}
    assert (shop.value("SELECT count(*) FROM ledger_entry"), moves(shop)) == (2, 1)


def test_the_return_link_of_another_payment_pays_nothing(shop: Shop, shopper: Shopper) -> None:
    """Two payments wait; one is confirmed, its link is used for both."""
    _mine, receipt = pay(shop, shopper)
    other = shop.shopper()
    theirs, their_receipt = pay(shop, other, email="grace@example.org")
    link = theirs.decide()
    assert link.endswith(their_receipt)
    assert shopper.open(link).heading == "Waiting for the bank"
    assert shopper.open(receipt).heading == WAITING
    assert other.open(their_receipt).heading == "Paid: €24.00"
    assert moves(shop) == 1


def test_a_stranger_who_comes_by_the_link_first_settles_nothing_wrong(shop: Shop, shopper: Shopper) -> None:
    at_bank, receipt = pay(shop, shopper)
    at_bank.decide()
    assert shop.shopper().open(receipt).heading == "Waiting for the bank"
    assert shopper.open(receipt).heading == "Paid: €24.00"


def test_links_that_never_were(shop: Shop, shopper: Shopper) -> None:
    pay(shop, shopper)
    assert {shopper.open(f"/receipts/{made}").status for made in (uuid4(), "1", "%00", uuid4().hex)} == {404}
    assert shop.charges() == {"requires_action": 1}
