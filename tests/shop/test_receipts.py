"""Receipts: whole for the browser that paid, bare for every other, by link and as JSON."""

from collections.abc import Callable

from app.charges import protocol, receipts
from app.gateways.base import Answer, Outcome
from tests.factories import ASKS, DECLINES, ready_to_pay
from tests.shops import Shop


def test_the_json_says_what_the_page_says(shop: Shop) -> None:
    shopper = shop.shopper()
    receipt = ready_to_pay(shopper, quantity=2).submit()
    said = shopper.client.get(f"{receipt.path}.json").json()
    assert said == {
        "id": receipt.path.removeprefix("/receipts/"), "status": "succeeded", "amount": 4800, "currency": "EUR",
        "order": shop.value("SELECT id FROM orders"),
    }  # fmt: skip
    assert shop.shopper().client.get(f"{receipt.path}.json").json() == said


def test_a_bare_receipt_can_do_nothing(shop: Shop) -> None:
    mine = ready_to_pay(shop.shopper(), card_number=ASKS)
    answer = mine.post()
    assert answer.headers["Location"].startswith("http://127.0.0.1:8010/"), "on to the bank's page"
    listed = mine.page.shopper.open("/receipts").links.values()
    receipt = next(path for path in listed if path.startswith("/receipts/")).removeprefix("/receipts/")
    foreign = shop.shopper()
    bare = foreign.open(f"/receipts/{receipt}")
    assert bare.status == 200
    assert bare.root.all("form") == []
    assert "http://127.0.0.1:8010" not in bare.answer.text
    assert foreign.post(f"/receipts/{receipt}/cancel", {}).status_code == 403
    assert shop.charges() == {"requires_action": 1}


def test_its_buyer_may_continue_or_give_it_up(shop: Shop) -> None:
    form = ready_to_pay(shop.shopper(), card_number=ASKS)
    form.post()
    page = form.submit()
    assert "Continue at your bank" in page.links
    assert page.submit("Give this payment up").heading == "Nothing was charged"
    assert shop.charges() == {"canceled": 1}
    assert shop.statement() == []


def test_waiting_pages_refresh_by_a_get(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop(gateway_deadline=0.4)
    page = ready_to_pay(shop.shopper(), card_number="4000 0000 0006 0055").submit()
    refresh = page.root.first("meta", **{"http-equiv": "refresh"})
    assert refresh is not None and refresh.attrs["content"] == "3", "the same address, every 3 seconds"
    assert page.reload().status == 200
    assert [line.amount for line in shop.statement()] == [2400]


def test_a_page_that_says_how_it_ended_does_not_refresh(shop: Shop) -> None:
    for n, card in enumerate(("4242 4242 4242 4242", DECLINES)):
        page = ready_to_pay(shop.shopper(), card_number=card, email=f"a{n}@example.org").submit()
        assert page.root.first("meta", **{"http-equiv": "refresh"}) is None


def test_a_declined_receipt_after_its_order_was_changed_and_paid(shop: Shop) -> None:
    shopper = shop.shopper()
    declined = ready_to_pay(shopper, card_number=DECLINES).submit()
    paid = ready_to_pay(shopper, quantity=3).submit()
    assert paid.heading == "Paid: €72.00"
    again = shopper.open(declined.url)
    assert again.heading == "Your card was declined"
    assert "€24.00" in again.text
    assert "Pay again" not in again.links
    assert "3 ×" not in again.text, "the lines are not what this payment was for"


def test_the_list_is_this_browsers(shop: Shop) -> None:
    shopper = shop.shopper()
    receipt = ready_to_pay(shopper).submit()
    assert receipt.path in shopper.open("/receipts").links.values()
    assert "There are none yet." in shop.shopper().open("/receipts").text


def test_money_that_turns_up_after_all_is_not_denied(shop: Shop) -> None:
    """A bank that took the money although it had said no: the receipt says so, and then that it went back."""
    receipt = ready_to_pay(shop.shopper(), card_number=DECLINES).submit()
    assert "No money was taken" in receipt.text
    with shop.app.app_context():
        charge = receipts.find_charge(receipt.path.rpartition("/")[2])
        assert charge is not None
        protocol.record(charge, Answer(Outcome.SUCCEEDED))
    told = receipt.reload()
    assert told.heading == "Taken by mistake, and on its way back"
    assert "No money was taken" not in told.text
    shop.execute("UPDATE refund SET status = 'succeeded', ended_at = created_at WHERE stray")
    assert receipt.reload().heading == "Taken by mistake, and given back"
