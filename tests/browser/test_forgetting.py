"""A browser is forgotten by one button, with and without JavaScript."""

from playwright.sync_api import expect

from tests.browser.buyer import Buyer


def test_a_browser_that_is_forgotten_shows_nothing_of_its_payment(buyer: Buyer) -> None:
    buyer.get_ready()
    buyer.press()
    receipt = buyer.wait_for_receipt()
    page = buyer.page
    expect(page.get_by_text("Ada Example").first).to_be_visible()
    page.goto("/receipts")
    page.get_by_role("button", name="Forget this browser").click()
    expect(page.get_by_role("status")).to_contain_text("This browser is forgotten.")
    assert [cookie["name"] for cookie in buyer.context.cookies()] == []
    page.reload()
    expect(page.get_by_role("status")).to_contain_text("This browser is forgotten.")
    page.go_back()
    page.goto(receipt)
    expect(page.get_by_role("heading", level=1)).to_have_text("Paid: €24.00")
    expect(page.get_by_text("Ada Example")).to_have_count(0)
    assert buyer.times_charged() == 1
