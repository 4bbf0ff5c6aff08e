"""What a shopper does in a browser, and what is counted while they do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from playwright.sync_api import expect

if TYPE_CHECKING:
    from tests.browser.conftest import Live


RECEIPT = re.compile(r"/receipts/[^/]+$")


class Buyer:
    """One browser with its cookies. `email` is new for each, so that nobody is asked "again?"."""

    def __init__(self, context: Any, live: Live, scripted: bool) -> None:
        self.context, self.live, self.scripted = context, live, scripted
        self.email = f"{uuid4().hex}@example.org"
        self.page = context.new_page()
        self.sent_before = live.payments_sent()
        self.paid_before = len(live.statement())

    def fill_basket(self, slug: str = "morning-mug") -> None:
        self.page.goto(f"/products/{slug}")
        self.page.get_by_role("button", name="Add to basket").click()
        self.page.wait_for_url("**/basket")

    def fill_form(self, card: str = "4242 4242 4242 4242", page: Any = None) -> None:
        page = page or self.page
        page.goto("/checkout")
        page.fill("#email", self.email)
        page.fill("#name", "Ada Example")
        page.fill("#card_number", card)
        page.fill("#card_expiry", "12/49")
        page.fill("#card_cvc", "123")

    def ready(self, card: str = "4242 4242 4242 4242") -> None:
        """In front of the button."""
        self.fill_basket()
        self.fill_form(card)

    def press(self, page: Any = None) -> None:
        (page or self.page).get_by_role("button", name="Pay €").click()

    def arrive(self, page: Any = None) -> str:
        """Wait for the receipt; its address. Looked at, not listened for: a second press ends a navigation."""
        page = page or self.page
        expect(page).to_have_url(RECEIPT, timeout=30_000)
        page.wait_for_load_state()
        return str(page.url)

    def sent(self) -> int:
        """How many payment forms reached the shop since this shopper came."""
        return self.live.payments_sent() - self.sent_before

    def paid(self) -> int:
        """How often the bank moved money since this shopper came."""
        return len(self.live.statement()) - self.paid_before
