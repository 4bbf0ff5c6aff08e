"""Chromium on the provider's own page: led there by our form's 303, and back. What was paid, the provider says.

The shop is as deployed; the provider is the stand-in, on an origin of its own, as its page will be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.buying import Buyer
from tests.browser.conftest import Live
from tests.stripe.provider.server import Provider, deliver, running_provider
from tests.stripe.provider.state import API_KEY, APPROVES, ASKS, DECLINES, SECRET, Object

HOSTED = re.compile(r"/c/pay/cs_test_\w+$")


class StripeLive(Live):
    """A shop whose shoppers pay on the provider's page."""

    def __init__(self, folder: Path, provider: Provider) -> None:
        super().__init__(folder)
        self.provider = provider
        self.env |= {
            "PAYMENT_GATEWAY": "stripe", "STRIPE_SECRET_KEY": API_KEY, "STRIPE_API_BASE": provider.origin,
            "STRIPE_WEBHOOK_SECRET": SECRET, "WEB_CONCURRENCY": "1",
        }  # fmt: skip

    def start(self) -> None:
        self.start_shop()

    def statement(self) -> list[dict[str, Any]]:
        return self.provider.paid()


class HostedGateway(Buyer):
    """One who gives no card to the shop."""

    live: StripeLive

    def fill_form(self, card: str = "", page: Page | None = None) -> None:
        page = page or self.page
        page.goto("/checkout")
        page.fill("#email", self.email)
        page.fill("#name", "Ada Example")

    def press(self, page: Page | None = None) -> None:
        (page or self.page).get_by_role("button", name="Continue to pay").click()

    def led_to_pay(self) -> str:
        """From the basket to the provider's page; its address."""
        self.ready()
        self.press()
        self.page.wait_for_url(HOSTED)
        return str(self.page.url)

    def pay(self, card: str = APPROVES, page: Page | None = None) -> None:
        page = page or self.page
        page.get_by_label("Card number").fill(card)
        page.get_by_role("button", name="Pay").click()

    def session(self) -> Object:
        """The one session that was made for this shopper."""
        made = self.live.provider.state.sessions.values()
        (only,) = [each for each in made if each["customer_email"] == self.email]
        return only


@pytest.fixture(scope="session")
def stripe_live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StripeLive]:
    """One shop and one provider for all of these tests; each test is another shopper."""
    with running_provider() as provider:
        live = StripeLive(tmp_path_factory.mktemp("stripe"), provider)
        try:
            live.start()
            yield live
        finally:
            live.stop_all()


@pytest.fixture(params=["script", "no script"])
def buyer(request: pytest.FixtureRequest, browser: Any, stripe_live: StripeLive) -> Iterator[HostedGateway]:
    context = browser.new_context(base_url=stripe_live.url, java_script_enabled=request.param == "script")
    context.set_default_timeout(20_000)
    yield HostedGateway(context, stripe_live, scripted=request.param == "script")
    context.close()


def heading(page: Page, words: str) -> None:
    expect(page.get_by_role("heading", level=1)).to_contain_text(words)


def test_pay_and_land_on_paid(buyer: HostedGateway) -> None:
    url = buyer.led_to_pay()
    assert url == buyer.session()["url"]
    buyer.pay()
    receipt = buyer.arrive()
    heading(buyer.page, "Paid")
    buyer.page.reload()
    assert (buyer.page.url, buyer.sent(), buyer.paid()) == (receipt, 1, 1)


def test_back_from_the_page_and_pay_again(buyer: HostedGateway) -> None:
    url = buyer.led_to_pay()
    buyer.page.go_back()
    if "/checkout" in buyer.page.url:  # out of the browser's memory: the very form, sent once more
        buyer.press()
    buyer.arrive()
    buyer.page.get_by_role("link", name="Continue to the payment page").click()
    buyer.page.wait_for_url(HOSTED)
    assert buyer.page.url == url == buyer.session()["url"]
    buyer.pay()
    buyer.arrive()
    heading(buyer.page, "Paid")
    assert buyer.paid() == 1


def test_back_after_it_was_paid(buyer: HostedGateway) -> None:
    buyer.led_to_pay()
    buyer.pay()
    receipt = buyer.arrive()
    buyer.page.go_back()
    if HOSTED.search(buyer.page.url):
        buyer.page.reload()
        heading(buyer.page, "This page has ended")
        buyer.page.get_by_role("link", name="Back to the shop").click()
    elif "/checkout" in buyer.page.url:
        buyer.press()
    assert buyer.arrive() == receipt
    assert buyer.paid() == 1


def test_two_tabs(buyer: HostedGateway) -> None:
    """The second is led to the first one's session; both type a card into it."""
    buyer.ready()
    other = buyer.context.new_page()
    buyer.fill_form(page=other)
    buyer.press()
    buyer.page.wait_for_url(HOSTED)
    buyer.press(other)
    receipt = buyer.arrive(other)
    other.get_by_role("link", name="Continue to the payment page").click()
    other.wait_for_url(HOSTED)
    assert other.url == buyer.page.url == buyer.session()["url"]
    buyer.pay()
    assert buyer.arrive() == receipt
    buyer.pay(page=other)
    heading(other, "over")
    other.get_by_role("link", name="Back to the shop").click()
    assert buyer.arrive(other) == receipt
    heading(other, "Paid")
    assert (buyer.sent(), buyer.paid()) == (2, 1)


def test_declined_on_the_page_and_tried_again_there(buyer: HostedGateway) -> None:
    buyer.led_to_pay()
    buyer.pay(DECLINES)
    heading(buyer.page, "declined")
    assert buyer.paid() == 0
    buyer.pay()
    buyer.arrive()
    heading(buyer.page, "Paid")
    assert buyer.paid() == 1


def test_the_cardholder_s_bank_asks_there(buyer: HostedGateway) -> None:
    buyer.led_to_pay()
    buyer.pay(ASKS)
    buyer.page.get_by_role("button", name="Confirm").click()
    buyer.arrive()
    heading(buyer.page, "Paid")
    assert buyer.paid() == 1


def test_given_up_on_our_receipt(buyer: HostedGateway) -> None:
    """Another tab still shows the provider's page: nobody can pay there any more. The same goods can be paid anew."""
    url = buyer.led_to_pay()
    left = buyer.context.new_page()
    left.goto(url)
    buyer.page.get_by_role("link", name="Back to the shop").click()
    buyer.arrive()
    heading(buyer.page, "Your payment waits for you")
    buyer.page.get_by_role("button", name="Give this payment up").click()
    heading(buyer.page, "Nothing was charged")
    buyer.pay(page=left)
    heading(left, "over")
    assert (buyer.session()["status"], buyer.paid()) == ("expired", 0)
    buyer.fill_form()
    buyer.press()
    buyer.page.wait_for_url(HOSTED)
    assert buyer.page.url != url
    buyer.pay()
    buyer.arrive()
    heading(buyer.page, "Paid")
    assert buyer.paid() == 1


def test_paid_and_the_tab_closed_before_the_way_back(buyer: HostedGateway) -> None:
    """What the shopper never heard, the provider tells."""
    buyer.led_to_pay()
    session = buyer.session()
    buyer.live.provider.pay(session)
    buyer.page.close()
    with httpx.Client(base_url=buyer.live.url) as hook:
        assert deliver(hook, buyer.live.provider.event("checkout.session.completed")) == 200
    assert httpx.get(session["success_url"] + ".json").json()["status"] == "succeeded"
    page = buyer.context.new_page()
    page.goto("/receipts")
    page.get_by_role("link", name=re.compile("€24")).first.click()
    heading(page, "Paid")
    assert buyer.paid() == 1
