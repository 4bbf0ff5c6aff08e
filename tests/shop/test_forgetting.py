"""A browser that is forgotten: nobody opens its basket and the details of its payments any more."""

from app.charges import purge
from tests.factories import ASKS_SHOPPER, BOWL, DECLINES, checkout_form, fill_basket, ready_to_pay
from tests.recovery import recover_and_audit
from tests.shops import Shop

FORGET = "Forget this browser"


def test_nobody_opens_what_a_forgotten_browser_did(shop: Shop) -> None:
    """Also not with a copy of its cookie. Receipts tell everybody how the payment ended, and nothing else."""
    shopper = shop.shopper()
    ready_to_pay(shopper, card_number=DECLINES).submit()
    receipt = checkout_form(shopper).submit()
    fill_basket(shopper, BOWL)
    copy = shop.shopper(like=shopper)
    page = shopper.open("/receipts").submit(FORGET)
    assert (page.statuses, page.path) == ([303, 200], "/receipts")
    assert "This browser is forgotten." in page.text
    assert shopper.client.cookies.get("payonce") is None
    for browser in (shopper, copy):
        assert receipt.path not in browser.open("/receipts").links.values()
        public = browser.open(receipt.url)
        assert public.heading == "Paid: €24.00"
        assert [
            private for private in ("Ada", "ada@example.org", "Morning mug", "4242") if private in public.text
        ] == []
        assert browser.open("/basket").text.startswith("Your basket There is nothing in it yet.")
    assert shop.value("SELECT count(DISTINCT buyer_id) FROM orders") == 1
    assert shop.rows("SELECT DISTINCT buyer_id FROM charge") == shop.rows("SELECT DISTINCT buyer_id FROM orders")
    recover_and_audit(shop)


def test_the_page_that_says_so_can_be_reloaded_and_shared(shop: Shop) -> None:
    shopper = shop.shopper()
    fill_basket(shopper)
    page = shopper.open("/receipts").submit(FORGET)
    assert page.reload().text == page.text
    other = shop.shopper()
    fill_basket(other)
    assert "forgotten" not in other.open(page.url).text.replace("This browser is", ""), "it would not be true there"


def test_open_forms_of_a_forgotten_browser_charge_nothing(shop: Shop) -> None:
    """In a browser without the cookie, and in one that still has it."""
    shopper = shop.shopper()
    form = ready_to_pay(shopper)
    copy = shop.shopper(like=shopper)
    shopper.open("/receipts").submit(FORGET)
    for browser in (shopper, copy):
        for fields in (form.fields, form.fields | {"email": "nobody"}):
            page = browser.follow_redirects(browser.post("/checkout", fields))
            assert (page.status, page.heading) == (403, "This payment form belongs to another browser")
            assert "This try took no money." in page.text
    assert (shop.charges(), shop.statement(), shop.stock("morning-mug")) == ({}, [], 200)


def test_a_claimed_form_of_a_forgotten_browser_leads_to_its_receipt(shop: Shop) -> None:
    shopper = shop.shopper()
    form = ready_to_pay(shopper)
    paid = form.submit()
    shopper.open("/receipts").submit(FORGET)
    assert form.submit().url == paid.url
    assert len(shop.statement()) == 1


def test_a_browser_is_not_forgotten_while_its_payment_is_pending(shop: Shop) -> None:
    shopper = shop.shopper()
    ready_to_pay(shopper, card_number=ASKS_SHOPPER).post()
    page = shopper.open("/receipts").submit(FORGET)
    assert (page.status, page.title.partition(" –")[0]) == (409, "Error: Your payments")
    assert "This browser was not forgotten" in page.text
    receipt = page.follow("see this payment")
    assert receipt.heading == "Your bank needs you"
    assert receipt.submit("Give this payment up").heading == "Nothing was charged"
    assert "This browser is forgotten." in shopper.open("/receipts").submit(FORGET).text
    recover_and_audit(shop)


def test_forgetting_needs_the_csrf_token(shop: Shop) -> None:
    shopper = shop.shopper()
    receipt = ready_to_pay(shopper).submit()
    assert shopper.post("/receipts/forget", {"csrf_token": "forged"}).status_code == 400
    assert receipt.path in shopper.open("/receipts").links.values()
    assert FORGET not in shop.shopper().open("/receipts").text, "there is nothing to forget"


def test_a_forgotten_basket_is_purged_in_the_end(shop: Shop) -> None:
    shopper = shop.shopper()
    fill_basket(shopper)
    shopper.open("/receipts").submit(FORGET)
    shop.execute("UPDATE orders SET in_use_at = '2020-01-01 00:00:00.000000'")
    with shop.app.app_context():
        assert purge.run() == 1
    recover_and_audit(shop)
