"""Chromium pays on Stripe's own page: our form's 303 leads there, and the page leads back to the receipt.

The shop runs as it is deployed. Stripe is replaced by a stand-in on an origin of its own, which counts the charges.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.buyer import Buyer
from tests.browser.conftest import RunningShop
from tests.stripe.provider.server import Provider, deliver, running_provider
from tests.stripe.provider.state import API_KEY, APPROVES, ASKS, DECLINES, SECRET, Object

PAYMENT_PAGE = re.compile(r"/c/pay/cs_test_\w+$")


class RunningStripeShop(RunningShop):
    """A shop whose shoppers pay on Stripe's page. The sandbox bank is not started."""

    def __init__(self, folder: Path, provider: Provider) -> None:
        super().__init__(folder)
        self.provider = provider
        self.env |= {
            "PAYMENT_GATEWAY": "stripe", "STRIPE_SECRET_KEY": API_KEY, "STRIPE_API_BASE": provider.origin,
            "STRIPE_WEBHOOK_SECRET": SECRET, "WEB_CONCURRENCY": "1",
        }  # fmt: skip

    def start(self) -> None:
        """Start everything except the bank."""
        self.start_shop()

    def statement(self) -> list[dict[str, Any]]:
        """Return every payment that succeeded at the provider."""
        return self.provider.paid()


class StripeBuyer(Buyer):
    """A buyer who enters the card on Stripe's page, and none in the shop."""

    shop: RunningStripeShop

    def fill_form(self, card: str = "", page: Page | None = None) -> None:
        """Open the checkout and fill in its form, which has no card fields."""
        page = page or self.page
        page.goto("/checkout")
        page.fill("#email", self.email)
        page.fill("#name", "Ada Example")

    def press(self, page: Page | None = None) -> None:
        """Press the button that leads to Stripe's page."""
        (page or self.page).get_by_role("button", name="Continue to pay").click()

    def open_payment_page(self) -> str:
        """Go from the basket to Stripe's page. Return its URL."""
        self.get_ready()
        self.press()
        self.page.wait_for_url(PAYMENT_PAGE)
        return str(self.page.url)

    def pay(self, card: str = APPROVES, page: Page | None = None) -> None:
        """Enter the card on Stripe's page and press its button."""
        page = page or self.page
        page.get_by_label("Card number").fill(card)
        page.get_by_role("button", name="Pay").click()

    def session(self) -> Object:
        """Return the only session that was created for this buyer."""
        sessions = self.shop.provider.state.sessions.values()
        [session] = [each for each in sessions if each["customer_email"] == self.email]
        return session


@pytest.fixture(scope="session")
def stripe_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStripeShop]:
    """Start one shop and one stand-in for all tests. Each test has a browser of its own."""
    with running_provider() as provider:
        shop = RunningStripeShop(tmp_path_factory.mktemp("stripe"), provider)
        try:
            shop.start()
            yield shop
        finally:
            shop.stop_all()


@pytest.fixture(params=["script", "no script"])
def buyer(request: pytest.FixtureRequest, browser: Any, stripe_shop: RunningStripeShop) -> Iterator[StripeBuyer]:
    """Yield a buyer with JavaScript, and one without."""
    context = browser.new_context(base_url=stripe_shop.url, java_script_enabled=request.param == "script")
    context.set_default_timeout(20_000)
    yield StripeBuyer(context, stripe_shop, scripted=request.param == "script")
    context.close()


def expect_heading(page: Page, text: str) -> None:
    """Wait until the heading of the page contains `text`."""
    expect(page.get_by_role("heading", level=1)).to_contain_text(text)


def test_a_payment_ends_at_the_receipt(buyer: StripeBuyer) -> None:
    url = buyer.open_payment_page()
    assert url == buyer.session()["url"]
    buyer.pay()
    receipt = buyer.wait_for_receipt()
    expect_heading(buyer.page, "Paid")
    buyer.page.reload()
    assert (buyer.page.url, buyer.forms_sent(), buyer.times_charged()) == (receipt, 1, 1)


def test_the_form_sent_again_after_back_leads_to_the_same_session(buyer: StripeBuyer) -> None:
    url = buyer.open_payment_page()
    buyer.page.go_back()
    if "/checkout" in buyer.page.url:  # The browser kept the page, so this is the same form.
        buyer.press()
    buyer.wait_for_receipt()
    buyer.page.get_by_role("link", name="Continue to the payment page").click()
    buyer.page.wait_for_url(PAYMENT_PAGE)
    assert buyer.page.url == url == buyer.session()["url"]
    buyer.pay()
    buyer.wait_for_receipt()
    expect_heading(buyer.page, "Paid")
    assert buyer.times_charged() == 1


def test_back_after_the_payment_leads_to_the_receipt(buyer: StripeBuyer) -> None:
    buyer.open_payment_page()
    buyer.pay()
    receipt = buyer.wait_for_receipt()
    buyer.page.go_back()
    if PAYMENT_PAGE.search(buyer.page.url):
        buyer.page.reload()
        expect_heading(buyer.page, "This page has ended")
        buyer.page.get_by_role("link", name="Back to the shop").click()
    elif "/checkout" in buyer.page.url:
        buyer.press()
    assert buyer.wait_for_receipt() == receipt
    assert buyer.times_charged() == 1


def test_two_tabs_pay_in_one_session(buyer: StripeBuyer) -> None:
    """The second tab is redirected to the session of the first. Both enter a card there."""
    buyer.get_ready()
    other = buyer.context.new_page()
    buyer.fill_form(page=other)
    buyer.press()
    buyer.page.wait_for_url(PAYMENT_PAGE)
    buyer.press(other)
    receipt = buyer.wait_for_receipt(other)
    other.get_by_role("link", name="Continue to the payment page").click()
    other.wait_for_url(PAYMENT_PAGE)
    assert other.url == buyer.page.url == buyer.session()["url"]
    buyer.pay()
    assert buyer.wait_for_receipt() == receipt
    buyer.pay(page=other)
    expect_heading(other, "over")
    other.get_by_role("link", name="Back to the shop").click()
    assert buyer.wait_for_receipt(other) == receipt
    expect_heading(other, "Paid")
    assert (buyer.forms_sent(), buyer.times_charged()) == (2, 1)


def test_a_declined_card_can_be_replaced_on_the_payment_page(buyer: StripeBuyer) -> None:
    buyer.open_payment_page()
    buyer.pay(DECLINES)
    expect_heading(buyer.page, "declined")
    assert buyer.times_charged() == 0
    buyer.pay()
    buyer.wait_for_receipt()
    expect_heading(buyer.page, "Paid")
    assert buyer.times_charged() == 1


def test_a_card_that_needs_confirmation_is_confirmed_on_the_payment_page(buyer: StripeBuyer) -> None:
    buyer.open_payment_page()
    buyer.pay(ASKS)
    buyer.page.get_by_role("button", name="Confirm").click()
    buyer.wait_for_receipt()
    expect_heading(buyer.page, "Paid")
    assert buyer.times_charged() == 1


def test_a_payment_cancelled_on_the_receipt_cannot_be_paid_any_more(buyer: StripeBuyer) -> None:
    """Another tab still shows Stripe's page, but paying there fails. The order can be paid in a new session."""
    url = buyer.open_payment_page()
    other = buyer.context.new_page()
    other.goto(url)
    buyer.page.get_by_role("link", name="Back to the shop").click()
    buyer.wait_for_receipt()
    expect_heading(buyer.page, "Your payment waits for you")
    buyer.page.get_by_role("button", name="Give this payment up").click()
    expect_heading(buyer.page, "Nothing was charged")
    buyer.pay(page=other)
    expect_heading(other, "over")
    assert (buyer.session()["status"], buyer.times_charged()) == ("expired", 0)
    buyer.fill_form()
    buyer.press()
    buyer.page.wait_for_url(PAYMENT_PAGE)
    assert buyer.page.url != url
    buyer.pay()
    buyer.wait_for_receipt()
    expect_heading(buyer.page, "Paid")
    assert buyer.times_charged() == 1


def test_an_event_completes_a_payment_whose_tab_was_closed(buyer: StripeBuyer) -> None:
    """The shopper pays and never returns to the shop. Stripe's event reports the payment."""
    buyer.open_payment_page()
    session = buyer.session()
    buyer.shop.provider.pay(session)
    buyer.page.close()
    with httpx.Client(base_url=buyer.shop.url) as client:
        assert deliver(client, buyer.shop.provider.event("checkout.session.completed")) == 200
    assert httpx.get(session["success_url"] + ".json").json()["status"] == "succeeded"
    page = buyer.context.new_page()
    page.goto("/receipts")
    page.get_by_role("link", name=re.compile("€24")).first.click()
    expect_heading(page, "Paid")
    assert buyer.times_charged() == 1
