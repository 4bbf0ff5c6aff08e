"""How a shopper uses each shop, and what they are told there."""

import re

from lab.browser import Browser, Form, Page, forms, path_of
from lab.trace import SHOPPER, Trace

PRODUCT = "/products/morning-mug"

PURCHASE = {
    "email": "shopper@example.com", "name": "Sam Shopper",
    "card_number": "4242 4242 4242 4242", "card_expiry": "12/40", "card_cvc": "123",
}  # fmt: skip

RECEIPT = re.compile(r"/receipts/[0-9a-f-]{36}")

IN_WORDS = {"succeeded": "paid", "processing": "being confirmed", "in_doubt": "being confirmed"}


class StallShopper:
    """A shopper at one of the six stalls."""

    def __init__(self, origin: str, trace: Trace) -> None:
        self.browser = Browser(origin, trace)
        self._trace = trace

    def open_form(self) -> Form:
        """The page with the form, in a tab."""
        self._trace.say(SHOPPER, "opens the form")
        return forms(self.browser.get("/"))[0]

    def told(self, page: Page) -> str:
        """What the page says: "paid", "declined", "failed", "processing" …; "nothing" where none came."""
        found = re.search(r'data-told="(\w+)"', page.text)
        return found[1] if found else "nothing"

    def next_form(self, page: Page) -> Form | None:
        """The form that the page asks to send: on it, or where "try again" leads. None: it asks for nothing."""
        if self.told(page) == "failed":
            return forms(page)[0]
        return self.open_form() if self.told(page) == "declined" else None


class PayOnceShopper(StallShopper):
    """A shopper of the shop: basket, checkout form, receipt."""

    def __init__(self, origin: str, trace: Trace) -> None:
        super().__init__(origin, trace)
        self._has_basket = False

    def open_form(self) -> Form:
        if not self._has_basket:
            self._trace.say(SHOPPER, "puts a mug into the basket")
            self.browser.send(_form(self.browser.get(PRODUCT), "/basket"), watched=False)
            self._has_basket = True
        self._trace.say(SHOPPER, "opens the form")
        form = _form(self.browser.get("/checkout"), "/checkout")
        form.fields |= PURCHASE
        form.once = False  # Its script stops a second click too; what the lab tries is the server without it.
        return form

    def told(self, page: Page) -> str:
        """The state of the receipt that the page is, by the JSON that says the same as its words."""
        if not RECEIPT.fullmatch(path_of(page.url)):
            return "nothing"
        answer = self.browser.get(page.url + ".json")
        status = re.search(r'"status":\s*"(\w+)"', answer.text)
        return IN_WORDS.get(status[1], status[1]) if status else "nothing"

    def next_form(self, page: Page) -> Form | None:
        return self.open_form() if self.told(page) in {"declined", "canceled"} else None


def _form(page: Page, path: str) -> Form:
    """The page's form that posts to this path. Raises LookupError where there is none."""
    for form in forms(page):
        if path_of(form.action) == path:
            return form
    raise LookupError(f"no form to {path} on {path_of(page.url)}, which answered {page.status}")
