"""Receipts as pages and as JSON: all details for the browser that paid, few for every other browser."""

from collections.abc import Callable
from threading import Thread

import pytest
from sqlalchemy import event

from app.charges import protocol, receipts, refunds
from app.charges.rows import ChargeSnapshot
from app.charges.tokens import new_key
from app.database import db
from app.gateways.base import Answer, Outcome
from tests.factories import ASKS_SHOPPER, BOWL, DECLINES, MUG, change_product, fill_basket, ready_to_pay
from tests.page import Page
from tests.shops import Shop


def charge_of(receipt: Page) -> ChargeSnapshot:
    """Return the charge behind a receipt's page, inside an app context."""
    charge = receipts.find_charge(receipt.path.rpartition("/")[2])
    assert charge is not None
    return charge


def promise_refund(shop: Shop, receipt: Page, amount: int) -> None:
    """Claim a refund. The gateway has not been asked for it yet."""
    with shop.app.app_context():
        refunds.claim(charge_of(receipt), amount, new_key(), 60)


def test_the_json_matches_the_page(shop: Shop) -> None:
    shopper = shop.shopper()
    receipt = ready_to_pay(shopper, quantity=2).submit()
    data = shopper.client.get(f"{receipt.path}.json").json()
    assert data == {
        "id": receipt.path.removeprefix("/receipts/"), "status": "succeeded", "amount": 4800, "currency": "EUR",
        "order": shop.value("SELECT id FROM orders"),
    }  # fmt: skip
    assert shop.shopper().client.get(f"{receipt.path}.json").json() == data


def test_another_browser_cannot_act_on_a_receipt(shop: Shop) -> None:
    form = ready_to_pay(shop.shopper(), card_number=ASKS_SHOPPER)
    response = form.post()
    assert response.headers["Location"].startswith("http://127.0.0.1:8010/"), "redirected to the bank's page"
    listed = form.page.shopper.open("/receipts").links.values()
    receipt_id = next(path for path in listed if path.startswith("/receipts/")).removeprefix("/receipts/")
    stranger = shop.shopper()
    public = stranger.open(f"/receipts/{receipt_id}")
    assert public.status == 200
    assert public.root.all("form") == []
    assert "http://127.0.0.1:8010" not in public.response.text
    assert stranger.post(f"/receipts/{receipt_id}/cancel", {}).status_code == 403
    assert stranger.post(f"/receipts/{receipt_id}/give-up", {}).status_code == 403, "the earlier name of the view"
    assert shop.charges() == {"requires_action": 1}


def test_the_buyer_can_continue_or_cancel_a_waiting_payment(shop: Shop) -> None:
    form = ready_to_pay(shop.shopper(), card_number=ASKS_SHOPPER)
    form.post()
    page = form.submit()
    assert "Continue at your bank" in page.links
    assert page.submit("Give this payment up").heading == "Nothing was charged"
    assert shop.charges() == {"canceled": 1}
    assert shop.statement() == []


def test_a_waiting_page_reloads_itself_with_a_get(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop(gateway_deadline=0.4)
    page = ready_to_pay(shop.shopper(), card_number="4000 0000 0006 0055").submit()
    refresh = page.root.first("meta", **{"http-equiv": "refresh"})
    assert refresh is not None and refresh.attrs["content"] == "3", "the same URL after 3 seconds"
    assert page.reload().status == 200
    assert [entry.amount for entry in shop.statement()] == [2400]


def test_a_page_with_the_outcome_does_not_reload_itself(shop: Shop) -> None:
    for n, card in enumerate(("4242 4242 4242 4242", DECLINES)):
        page = ready_to_pay(shop.shopper(), card_number=card, email=f"a{n}@example.org").submit()
        assert page.root.first("meta", **{"http-equiv": "refresh"}) is None


def test_a_declined_receipt_does_not_show_the_lines_of_a_later_order(shop: Shop) -> None:
    shopper = shop.shopper()
    declined = ready_to_pay(shopper, card_number=DECLINES).submit()
    paid = ready_to_pay(shopper, quantity=3).submit()
    assert paid.heading == "Paid: €72.00"
    again = shopper.open(declined.url)
    assert again.heading == "Your card was declined"
    assert "€24.00" in again.text
    assert "Pay again" not in again.links
    assert "3 ×" not in again.text, "these lines belong to the later payment"


def test_a_declined_receipt_keeps_its_own_goods(shop: Shop) -> None:
    """The basket, the product's name and its price change afterwards. The receipt shows what the payment was for."""
    shopper = shop.shopper()
    declined = ready_to_pay(shopper, quantity=2, card_number=DECLINES).submit()
    assert "Morning mug 2 × €24.00 €48.00" in declined.text
    with shop.app.app_context():
        change_product(MUG, name="Evening mug", price=2600)
    fill_basket(shopper, quantity=0)
    fill_basket(shopper, BOWL)
    later = declined.reload()
    assert "Morning mug 2 × €24.00 €48.00" in later.text
    assert [name for name in ("Evening mug", "€26.00", "Supper bowl") if name in later.text] == []
    assert "as it was" not in later.text, "the basket has changed"


def test_a_basket_that_was_emptied_cannot_be_paid_again(shop: Shop) -> None:
    shopper = shop.shopper()
    declined = ready_to_pay(shopper, card_number=DECLINES).submit()
    assert "Pay again" in declined.links
    fill_basket(shopper, quantity=0)
    assert "Pay again" not in declined.reload().links


def test_the_list_has_only_this_browsers_receipts(shop: Shop) -> None:
    shopper = shop.shopper()
    receipt = ready_to_pay(shopper).submit()
    assert receipt.path in shopper.open("/receipts").links.values()
    assert "We know of none in this browser." in shop.shopper().open("/receipts").text


def test_a_receipt_reports_a_stray_payment_and_its_refund(shop: Shop) -> None:
    """The bank declines, but takes the money later. The receipt says so, and later that the money was refunded."""
    receipt = ready_to_pay(shop.shopper(), card_number=DECLINES).submit()
    assert "No money was taken" in receipt.text
    with shop.app.app_context():
        protocol.record(charge_of(receipt), Answer(Outcome.SUCCEEDED))
    reloaded = receipt.reload()
    assert reloaded.heading == "Taken by mistake, and being given back"
    assert "No money was taken" not in reloaded.text
    shop.execute("UPDATE refund SET status = 'succeeded', ended_at = created_at WHERE stray")
    assert receipt.reload().heading == "Taken by mistake, and given back"


@pytest.mark.parametrize("read", ["page", "e-mail"])
def test_a_receipt_shows_one_moment(shop: Shop, read: str) -> None:
    """A refund is confirmed between two of the statements that read the receipt. The sums still belong together."""
    receipt = ready_to_pay(shop.shopper()).submit()
    promise_refund(shop, receipt, 700)
    succeed = Thread(target=shop.execute, args=("UPDATE refund SET status = 'succeeded', ended_at = created_at",))

    def between(_connection: object, _cursor: object, statement: str, *_args: object) -> None:
        if "JOIN orders" in statement and succeed.ident is None:
            succeed.start()
            succeed.join()

    with shop.app.app_context():
        charge_id = charge_of(receipt).id
        event.listen(db.engine, "after_cursor_execute", between)
        if read == "e-mail":
            shown, _link = receipts.of_charge(charge_id)
            assert (shown.refunded, shown.refunding) == (0, 700)
    if read == "page":
        page = receipt.reload()
        assert (page.heading, "another" in page.text) == ("Paid: €24.00", False)
        assert "We are giving €7.00 back." in page.text
    assert succeed.ident is not None
    assert "Of the €24.00 you paid, €7.00 has been given back." in receipt.reload().text
