"""A shopper with a browser, and what the shop and the bank count while they use it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from playwright.sync_api import expect

if TYPE_CHECKING:
    from tests.browser.conftest import RunningShop


RECEIPT = re.compile(r"/receipts/[^/]+$")


class Buyer:
    """One browser with its cookies. Its `email` is new, so that its order is not the same order again."""

    def __init__(self, context: Any, shop: RunningShop, scripted: bool) -> None:
        self.context, self.shop, self.scripted = context, shop, scripted
        self.email = f"{uuid4().hex}@example.org"
        self.page = context.new_page()
        self._forms_before = shop.payment_forms()
        self._charges_before = len(shop.statement())

    def fill_basket(self, slug: str = "morning-mug") -> None:
        """Put one product into the basket."""
        self.page.goto(f"/products/{slug}")
        self.page.get_by_role("button", name="Add to basket").click()
        self.page.wait_for_url("**/basket")

    def fill_form(self, card: str = "4242 4242 4242 4242", page: Any = None) -> None:
        """Open the checkout, in `page` or in the first tab, and fill in its form."""
        page = page or self.page
        page.goto("/checkout")
        page.fill("#email", self.email)
        page.fill("#name", "Ada Example")
        page.fill("#card_number", card)
        page.fill("#card_expiry", "12/49")
        page.fill("#card_cvc", "123")

    def get_ready(self, card: str = "4242 4242 4242 4242") -> None:
        """Fill the basket and the form. Only the button is left to press."""
        self.fill_basket()
        self.fill_form(card)

    def press(self, page: Any = None) -> None:
        """Press the Pay button."""
        (page or self.page).get_by_role("button", name="Pay €").click()

    def wait_for_receipt(self, page: Any = None) -> str:
        """Wait until the tab shows a receipt. Return its URL.

        The URL is polled: waiting for one navigation would fail if a second press replaces that navigation.
        """
        page = page or self.page
        expect(page).to_have_url(RECEIPT, timeout=30_000)
        page.wait_for_load_state()
        return str(page.url)

    def forms_sent(self) -> int:
        """Return how many payment forms have reached the shop since this buyer was created."""
        return self.shop.payment_forms() - self._forms_before

    def times_charged(self) -> int:
        """Return how often the bank has moved money since this buyer was created."""
        return len(self.shop.statement()) - self._charges_before
