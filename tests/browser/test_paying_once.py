"""Everything that people and browsers do to a payment form, and one charge at the bank after each."""

import re
from typing import Any

from playwright.sync_api import Error, expect

from tests.browser.buying import Buyer
from tests.factories import ASKS, DECLINES, SLOW
from tests.gateways.bank import until


def heading(buyer: Buyer, words: str) -> None:
    expect(buyer.page.get_by_role("heading", level=1)).to_contain_text(words)


def test_reload_of_the_receipt(buyer: Buyer) -> None:
    buyer.ready()
    buyer.press()
    receipt = buyer.arrive()
    for _ in range(3):
        buyer.page.reload()
    heading(buyer, "Paid")
    assert (buyer.page.url, buyer.sent(), buyer.paid()) == (receipt, 1, 1)


def test_back_then_pay_again(buyer: Buyer) -> None:
    buyer.ready()
    buyer.press()
    receipt = buyer.arrive()
    buyer.page.go_back()
    if "/checkout" in buyer.page.url:  # out of the browser's memory: the very form, sent once more
        for name, value in (("#card_number", "4242424242424242"), ("#card_expiry", "1249"), ("#card_cvc", "123")):
            buyer.page.fill(name, value)
        buyer.press()
    assert buyer.arrive() == receipt
    assert buyer.paid() == 1


def test_double_click_with_a_hand_s_delay(buyer: Buyer) -> None:
    buyer.ready()
    buyer.page.get_by_role("button", name="Pay €").click(click_count=2, delay=100, no_wait_after=True)
    buyer.arrive()
    heading(buyer, "Paid")
    assert buyer.paid() == 1
    assert buyer.sent() == 1 or not buyer.scripted


def test_enter_held_down(buyer: Buyer) -> None:
    buyer.ready()
    buyer.page.focus("#card_cvc")
    for _ in range(8):
        try:
            buyer.page.keyboard.down("Enter")
        except Error:
            break  # the page is gone already
    buyer.arrive()
    assert buyer.paid() == 1


def test_two_tabs(buyer: Buyer) -> None:
    buyer.ready()
    other = buyer.context.new_page()
    buyer.fill_form(page=other)
    buyer.press()
    receipt = buyer.arrive()
    buyer.press(other)
    assert buyer.arrive(other) == receipt
    assert (buyer.sent(), buyer.paid()) == (2, 1)


def test_two_tabs_with_a_bank_that_asks(buyer: Buyer) -> None:
    """The classic double charge: both tabs at the bank's page, both confirmed."""
    buyer.ready(ASKS)
    other = buyer.context.new_page()
    buyer.fill_form(ASKS, page=other)
    buyer.press()
    buyer.page.wait_for_url("**/3ds/*")
    buyer.press(other)
    receipt = buyer.arrive(other)
    other.get_by_role("link", name="Continue at your bank").click()
    other.wait_for_url("**/3ds/*")
    for tab in (buyer.page, other):
        tab.get_by_role("button", name=re.compile("confirm", re.I)).first.click()
        assert buyer.arrive(tab) == receipt
        expect(tab.get_by_role("heading", level=1)).to_contain_text("Paid")
    assert buyer.paid() == 1


def test_a_slow_line_and_another_click(buyer: Buyer) -> None:
    """The bank is slow; who presses again, in the same tab, still gets to the truth."""
    buyer.ready(SLOW)
    button = buyer.page.get_by_role("button", name="Pay €")
    button.scroll_into_view_if_needed()
    box = button.bounding_box()
    for _ in range(3):
        buyer.page.mouse.click(box["x"] + 20, box["y"] + 20, delay=100)
    receipt = buyer.arrive()
    expect(buyer.page.get_by_role("heading", level=1)).to_contain_text(re.compile("confirmed|Paid"))
    buyer.page.goto(receipt)
    settled(buyer)
    assert buyer.paid() == 1


def settled(buyer: Buyer) -> None:
    """Reads the receipt again until it says how it ended, as its own refresh would."""
    for _ in range(40):
        if "Paid" in buyer.page.title():
            return
        buyer.page.wait_for_timeout(500)
        buyer.page.goto(buyer.page.url)
    raise AssertionError(buyer.page.title())


def test_offline_in_mid_submit_and_back(buyer: Buyer) -> None:
    buyer.ready()
    buyer.context.set_offline(True)
    with buyer.page.expect_event("requestfailed"):
        buyer.page.get_by_role("button", name="Pay €").click(no_wait_after=True)
    buyer.context.set_offline(False)
    assert buyer.paid() == 0
    buyer.fill_form()
    buyer.press()
    buyer.arrive()
    heading(buyer, "Paid")
    assert buyer.paid() == 1


def test_the_tab_closed_and_the_link_reopened(buyer: Buyer) -> None:
    buyer.ready(SLOW)
    buyer.page.get_by_role("button", name="Pay €").click(no_wait_after=True)
    until(lambda: "being confirmed" in buyer.context.request.get("/receipts").text().lower())
    buyer.page.close()  # The form is there; its answer is never seen.
    buyer.page = buyer.context.new_page()
    buyer.page.goto("/receipts")
    buyer.page.get_by_role("link", name=re.compile("€24")).first.click()
    settled(buyer)
    assert buyer.paid() == 1


def test_no_form_lies_in_the_history_s_way(buyer: Buyer) -> None:
    """After errors, a decline and a success: Back and reload never ask to send a form again."""
    asked: list[Any] = []
    buyer.page.on("dialog", lambda dialog: asked.append(dialog.message))
    buyer.fill_basket()
    buyer.page.goto("/checkout")
    buyer.press()  # empty: the form again
    buyer.page.get_by_text("There is a problem").wait_for()
    buyer.fill_form(DECLINES)
    buyer.press()
    buyer.arrive()
    heading(buyer, "declined")
    buyer.page.get_by_role("link", name="Pay again").click()
    buyer.fill_form()
    buyer.press()
    receipt = buyer.arrive()
    buyer.page.reload()
    assert buyer.page.url == receipt
    for _ in range(2):
        buyer.page.go_back()
        buyer.page.reload()
        assert buyer.page.locator("h1").count() == 1, buyer.page.url
    assert (buyer.paid(), asked) == (1, [])
