"""How a shopper uses each shop, and what the pages tell them."""

import re

from lab.browser import Browser, Form, Page, forms, path_of
from lab.trace import SHOPPER, Trace

PRODUCT = "/products/morning-mug"

PURCHASE = {
    "email": "shopper@example.com", "name": "Sam Shopper",
    "card_number": "4242 4242 4242 4242", "card_expiry": "12/40", "card_cvc": "123",
}  # fmt: skip

RECEIPT = re.compile(r"/receipts/[0-9a-v-]{36}")

IN_WORDS = {"succeeded": "paid", "processing": "being confirmed", "in_doubt": "being confirmed"}
"""Charge states as the receipt words them. Other states are shown by their own names."""


class SmallShopShopper:
    """A shopper in one of the six small shops."""

    def __init__(self, origin: str, trace: Trace) -> None:
        self.browser = Browser(origin, trace)
        self._trace = trace

    def open_form(self) -> Form:
        """Open the page with the payment form in a tab. Return the form."""
        self._trace.add(SHOPPER, "opens the form")
        return forms(self.browser.get("/"))[0]

    def told(self, page: Page) -> str:
        """Return what the page says, such as "paid", "declined" or "failed"; "nothing" if there is no page."""
        found = re.search(r'data-told="(\w+)"', page.text)
        return found[1] if found else "nothing"

    def next_form(self, page: Page) -> Form | None:
        """Return the form that the page asks the shopper to send, on the page or behind "try again"; or None."""
        if self.told(page) == "failed":
            return forms(page)[0]
        return self.open_form() if self.told(page) == "declined" else None


class PayOnceShopper(SmallShopShopper):
    """A shopper in PayOnce, with its basket, checkout form and receipt."""

    def __init__(self, origin: str, trace: Trace) -> None:
        super().__init__(origin, trace)
        self._has_basket = False

    def open_form(self) -> Form:
        if not self._has_basket:
            self._trace.add(SHOPPER, "puts a mug into the basket")
            self.browser.send(_form(self.browser.get(PRODUCT), "/basket"), traced=False)
            self._has_basket = True
        self._trace.add(SHOPPER, "opens the form")
        form = _form(self.browser.get("/checkout"), "/checkout")
        form.fields |= PURCHASE
        form.once = False  # The script would stop a second click too. The Lab tests the server without it.
        return form

    def told(self, page: Page) -> str:
        """Return the charge's state from the receipt's JSON; "nothing" if the page is not a receipt."""
        if not RECEIPT.fullmatch(path_of(page.url)):
            return "nothing"
        receipt = self.browser.get(page.url + ".json")
        status = re.search(r'"status":\s*"(\w+)"', receipt.text)
        return IN_WORDS.get(status[1], status[1]) if status else "nothing"

    def next_form(self, page: Page) -> Form | None:
        return self.open_form() if self.told(page) in {"declined", "canceled"} else None


def _form(page: Page, path: str) -> Form:
    """Return the page's form that posts to this path. Raises LookupError if there is none."""
    for form in forms(page):
        if path_of(form.action) == path:
            return form
    raise LookupError(f"no form to {path} on {path_of(page.url)} (status {page.status})")
