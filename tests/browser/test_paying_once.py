"""One charge at the bank, whether a shopper reloads, goes back, clicks twice, uses two tabs or loses the connection."""

import re
from typing import Any

from playwright.sync_api import Error, expect

from tests.browser.buyer import Buyer
from tests.factories import ASKS_SHOPPER, DECLINES, SLOW
from tests.gateways.bank import until


def expect_heading(buyer: Buyer, text: str) -> None:
    """Wait until the heading of the buyer's page contains `text`."""
    expect(buyer.page.get_by_role("heading", level=1)).to_contain_text(text)


def test_reloading_the_receipt_charges_nothing(buyer: Buyer) -> None:
    buyer.get_ready()
    buyer.press()
    receipt = buyer.wait_for_receipt()
    for _ in range(3):
        buyer.page.reload()
    expect_heading(buyer, "Paid")
    assert (buyer.page.url, buyer.forms_sent(), buyer.times_charged()) == (receipt, 1, 1)


def test_paying_again_after_back_leads_to_the_same_receipt(buyer: Buyer) -> None:
    buyer.get_ready()
    buyer.press()
    receipt = buyer.wait_for_receipt()
    buyer.page.go_back()
    if "/checkout" in buyer.page.url:  # The browser kept the page, so this is the same form.
        for name, value in (("#card_number", "4242424242424242"), ("#card_expiry", "1249"), ("#card_cvc", "123")):
            buyer.page.fill(name, value)
        buyer.press()
    assert buyer.wait_for_receipt() == receipt
    assert buyer.times_charged() == 1


def test_a_double_click_charges_once(buyer: Buyer) -> None:
    buyer.get_ready()
    buyer.page.get_by_role("button", name="Pay €").click(click_count=2, delay=100, no_wait_after=True)
    buyer.wait_for_receipt()
    expect_heading(buyer, "Paid")
    assert buyer.times_charged() == 1
    assert buyer.forms_sent() == 1 or not buyer.scripted


def test_enter_held_down_charges_once(buyer: Buyer) -> None:
    buyer.get_ready()
    buyer.page.focus("#card_cvc")
    for _ in range(8):
        try:
            buyer.page.keyboard.down("Enter")
        except Error:
            break  # The page has been left.
    buyer.wait_for_receipt()
    assert buyer.times_charged() == 1


def test_two_tabs_lead_to_one_receipt(buyer: Buyer) -> None:
    buyer.get_ready()
    other = buyer.context.new_page()
    buyer.fill_form(page=other)
    buyer.press()
    receipt = buyer.wait_for_receipt()
    buyer.press(other)
    assert buyer.wait_for_receipt(other) == receipt
    assert (buyer.forms_sent(), buyer.times_charged()) == (2, 1)


def test_two_tabs_that_confirm_at_the_bank_charge_once(buyer: Buyer) -> None:
    """Both tabs are at the bank's page for the same payment, and both confirm it."""
    buyer.get_ready(ASKS_SHOPPER)
    other = buyer.context.new_page()
    buyer.fill_form(ASKS_SHOPPER, page=other)
    buyer.press()
    buyer.page.wait_for_url("**/3ds/*")
    buyer.press(other)
    receipt = buyer.wait_for_receipt(other)
    other.get_by_role("link", name="Continue at your bank").click()
    other.wait_for_url("**/3ds/*")
    for tab in (buyer.page, other):
        tab.get_by_role("button", name=re.compile("confirm", re.I)).first.click()
        assert buyer.wait_for_receipt(tab) == receipt
        expect(tab.get_by_role("heading", level=1)).to_contain_text("Paid")
    assert buyer.times_charged() == 1


def test_clicking_again_while_the_bank_is_slow_leads_to_the_receipt(buyer: Buyer) -> None:
    """A second click in the same tab replaces the first request. It does not start a second charge."""
    buyer.get_ready(SLOW)
    button = buyer.page.get_by_role("button", name="Pay €")
    button.scroll_into_view_if_needed()
    box = button.bounding_box()
    for _ in range(3):
        buyer.page.mouse.click(box["x"] + 20, box["y"] + 20, delay=100)
    receipt = buyer.wait_for_receipt()
    expect(buyer.page.get_by_role("heading", level=1)).to_contain_text(re.compile("confirmed|Paid"))
    buyer.page.goto(receipt)
    wait_until_paid(buyer)
    assert buyer.times_charged() == 1


def wait_until_paid(buyer: Buyer) -> None:
    """Reload the receipt until it shows that the order is paid, as the page itself does."""
    for _ in range(40):
        if "Paid" in buyer.page.title():
            return
        buyer.page.wait_for_timeout(500)
        buyer.page.goto(buyer.page.url)
    raise AssertionError(buyer.page.title())


def test_a_form_that_was_sent_offline_can_be_paid_later(buyer: Buyer) -> None:
    buyer.get_ready()
    buyer.context.set_offline(True)
    with buyer.page.expect_event("requestfailed"):
        buyer.page.get_by_role("button", name="Pay €").click(no_wait_after=True)
    buyer.context.set_offline(False)
    assert buyer.times_charged() == 0
    buyer.fill_form()
    buyer.press()
    buyer.wait_for_receipt()
    expect_heading(buyer, "Paid")
    assert buyer.times_charged() == 1


def test_a_shopper_who_closed_the_tab_finds_the_payment_in_the_list(buyer: Buyer) -> None:
    buyer.get_ready(SLOW)
    buyer.page.get_by_role("button", name="Pay €").click(no_wait_after=True)
    until(lambda: "being confirmed" in buyer.context.request.get("/receipts").text().lower())
    buyer.page.close()  # The shop has received the form. The browser never gets the response.
    buyer.page = buyer.context.new_page()
    buyer.page.goto("/receipts")
    buyer.page.get_by_role("link", name=re.compile("€24")).first.click()
    wait_until_paid(buyer)
    assert buyer.times_charged() == 1


def test_back_and_reload_never_ask_to_send_a_form_again(buyer: Buyer) -> None:
    """The history contains a page with errors, a declined payment and a successful one."""
    dialogs: list[Any] = []
    buyer.page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    buyer.fill_basket()
    buyer.page.goto("/checkout")
    buyer.press()  # The form is empty, so it is shown again.
    buyer.page.get_by_text("There is a problem").wait_for()
    buyer.fill_form(DECLINES)
    buyer.press()
    buyer.wait_for_receipt()
    expect_heading(buyer, "declined")
    buyer.page.get_by_role("link", name="Pay again").click()
    buyer.fill_form()
    buyer.press()
    receipt = buyer.wait_for_receipt()
    buyer.page.reload()
    assert buyer.page.url == receipt
    for _ in range(2):
        buyer.page.go_back()
        buyer.page.reload()
        assert buyer.page.locator("h1").count() == 1, buyer.page.url
    assert (buyer.times_charged(), dialogs) == (1, [])
