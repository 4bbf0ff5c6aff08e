"""Opens every page of the shop in each of its states, once, and yields it in a browser's tab.

Preparations are made over plain HTTP with the browser's cookies. The browser opens the page itself, or sends its form.
"""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from tests.browser.conftest import ROOT, RunningShop
from tests.factories import (
    APPROVES,
    ASKS_SHOPPER,
    BOWL,
    DECLINES,
    MUG,
    NO_FUNDS,
    checkout_form,
    fill_basket,
    ready_to_pay,
)
from tests.page import Form, Page, Shopper

SILENT = "4000 0000 0006 0063"
DECLINES_ALLOWED = 10
"""Declines after which the shop tries no more cards of a browser."""


class ShopWithoutRecovery(RunningShop):
    """A shop in which charges and refunds in doubt stay in doubt. It has one worker, which counts all declines."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.env |= {"WEB_CONCURRENCY": "1", "GATEWAY_DEADLINE": "8"}

    def start(self) -> None:
        """Start the bank and the shop, and stop recovery."""
        super().start()
        self.stop("recovery")

    def refund(self, receipt: Page, *options: str) -> None:
        """Run the merchant's command for this receipt. It exits with 3 if the outcome is in doubt."""
        command = self._flask("refund", receipt.path.rpartition("/")[2], *options)
        done = subprocess.run(command, env=self.env, cwd=ROOT, capture_output=True)
        assert done.returncode in (0, 3), done.stderr

    def sql(self, statement: str) -> None:
        """Change the database directly."""
        with closing(sqlite3.connect(self.folder / "shop.sqlite", timeout=10)) as connection, connection:
            connection.execute(statement)

    @contextmanager
    def without(self, table: str) -> Iterator[None]:
        """Rename a table for the length of the block, so that every query on it fails."""
        self.sql(f"ALTER TABLE {table} RENAME TO missing")
        yield
        self.sql(f"ALTER TABLE missing RENAME TO {table}")


class Visitor:
    """One shopper: a browser's tab, and an HTTP client with the same cookies for preparations.

    For the page in the tab it keeps the `console` messages, all `requested` URLs, and the `responses` of the page.
    """

    def __init__(self, browser: Any, shop: ShopWithoutRecovery) -> None:
        self.origins = (shop.url, shop.env["SANDBOX_BANK_URL"])
        self.context = browser.new_context(base_url=shop.url, viewport={"width": 390, "height": 844})
        self.context.set_default_timeout(60_000)
        self.tab = self.context.new_page()
        self.console: list[str] = []
        self.requested: list[str] = []
        self.responses: list[Any] = []
        self.tab.on("console", lambda message: self.console.append(message.text))
        self.tab.on("pageerror", lambda error: self.console.append(str(error)))
        self.tab.on("request", lambda request: self.requested.append(request.url))
        self.tab.on("response", lambda response: self._keep_navigation(response))
        self.shopper = Shopper(httpx.Client(base_url=shop.url, timeout=60))
        self.email = f"{uuid4().hex}@example.org"

    def open(self, path: str) -> Visitor:
        """Open a page in the browser, with the cookies of the HTTP client."""
        for name, value in self.shopper.client.cookies.items():
            self.context.add_cookies([{"name": name, "value": value, "url": str(self.shopper.client.base_url)}])
        self._clear()
        self.tab.goto(path)
        return self

    def form(self, card: str = APPROVES, slug: str = MUG) -> Form:
        """Return a payment form over HTTP, filled in and not sent yet."""
        return ready_to_pay(self.shopper, slug, email=self.email, card_number=card)

    def pay(self, card: str = APPROVES, slug: str = MUG) -> Page:
        """Send a payment form over HTTP. Return its receipt."""
        return self.form(card, slug).submit()

    def fill_form(self) -> None:
        """Type into the payment form that the tab shows."""
        values = {"email": self.email, "name": "Ada Example", "card_number": APPROVES, "card_expiry": "1249",
                  "card_cvc": "123"}  # fmt: skip
        for name, value in values.items():
            self.tab.fill(f"#{name}", value)

    def press(self, button: str) -> Visitor:
        """Press a button in the tab and wait for the next page."""
        self._clear()
        with self.tab.expect_navigation():
            self.tab.get_by_role("button", name=button).first.click()
        return self

    def _keep_navigation(self, response: Any) -> None:
        if response.request.is_navigation_request():
            self.responses.append(response)

    def _clear(self) -> None:
        """Drop what was kept for the page before."""
        for kept in (self.console, self.requested, self.responses):
            kept.clear()


def visit_all(browser: Any, shop: ShopWithoutRecovery) -> Iterator[tuple[str, Visitor]]:
    """Yield the name of every page in every state, and the visitor whose tab shows it. Failures come last."""
    for visits in (_catalogue, _checkout, _refused_checkouts, _unpaid, _paid, _in_doubt, _failures):
        yield from visits(browser, shop)


def _catalogue(browser: Any, shop: ShopWithoutRecovery) -> Iterator[tuple[str, Visitor]]:
    visitor = Visitor(browser, shop)
    yield "catalogue", visitor.open("/")
    yield "basket, empty", visitor.open("/basket")
    yield "payments, none", visitor.open("/receipts")
    yield "no such page", visitor.open("/no-such-page")
    yield "product", visitor.open(f"/products/{MUG}")
    visitor.tab.fill("#quantity", "1000")
    yield "product, error", visitor.press("Add to basket")
    shop.sql("UPDATE product SET stock = 0 WHERE slug = 'butter-dish'")
    yield "product, sold out", visitor.open("/products/butter-dish")
    fill_basket(visitor.shopper, MUG, 2)
    fill_basket(visitor.shopper, BOWL)
    yield "basket", visitor.open("/basket")
    visitor.tab.fill(f"#quantity-{MUG}", "")
    yield "basket, error", visitor.press("Update Morning mug")
    shop.sql(f"UPDATE product SET price = price + 100 WHERE slug = '{BOWL}'")
    yield "basket, changed price", visitor.open("/basket")
    visitor.context.close()


def _checkout(browser: Any, shop: ShopWithoutRecovery) -> Iterator[tuple[str, Visitor]]:
    visitor = Visitor(browser, shop)
    fill_basket(visitor.shopper)
    yield "checkout", visitor.open("/checkout")
    yield "checkout, errors", visitor.press("Pay")
    visitor.open("/checkout")
    fill_basket(visitor.shopper, MUG, 3)
    visitor.fill_form()
    yield "checkout, changed", visitor.press("Pay")
    visitor.open("/checkout")
    visitor.tab.evaluate("document.querySelector('[name=checkout_token]').value = 'cut'")
    yield "damaged token", visitor.press("Pay")
    visitor.context.close()


def _refused_checkouts(browser: Any, shop: ShopWithoutRecovery) -> Iterator[tuple[str, Visitor]]:
    """Nothing is charged: the same order again, and too many declined cards."""
    visitor = Visitor(browser, shop)
    visitor.pay()
    fill_basket(visitor.shopper)
    visitor.open("/checkout")
    visitor.fill_form()
    yield "same order again", visitor.press("Pay")
    visitor.context.close()
    visitor = Visitor(browser, shop)
    visitor.pay(DECLINES)
    for _ in range(DECLINES_ALLOWED - 1):
        checkout_form(visitor.shopper, email=visitor.email, card_number=DECLINES).submit()
    visitor.open("/checkout")
    visitor.fill_form()
    yield "too many declines", visitor.press("Pay")
    visitor.context.close()


def _unpaid(browser: Any, shop: ShopWithoutRecovery) -> Iterator[tuple[str, Visitor]]:
    visitor = Visitor(browser, shop)
    yield "declined", visitor.open(visitor.pay(DECLINES).path)
    yield "not enough funds", visitor.open(checkout_form(visitor.shopper, card_number=NO_FUNDS).submit().path)
    response = checkout_form(visitor.shopper, email=visitor.email, card_number=ASKS_SHOPPER).post()
    waiting = visitor.shopper.open("/checkout")
    yield "requires action", visitor.open(waiting.path)
    visitor.open("/receipts")
    yield "not forgotten", visitor.press("Forget this browser")
    yield "the bank's page", visitor.open(response.headers["Location"])
    waiting.submit("Give this payment up")
    yield "cancelled", visitor.open(waiting.path)
    response = checkout_form(visitor.shopper, email=visitor.email, card_number=ASKS_SHOPPER).post()
    visitor.open(response.headers["Location"])
    yield "refused at the bank", visitor.press("Refuse")
    visitor.context.close()


def _paid(browser: Any, shop: ShopWithoutRecovery) -> Iterator[tuple[str, Visitor]]:
    visitor = Visitor(browser, shop)
    first = visitor.pay()
    yield "paid", visitor.open(first.path)
    form, second_tab = visitor.form(slug=BOWL), checkout_form(visitor.shopper, email=visitor.email)
    for _ in range(3):
        response = form.post()
    yield "paid, three arrivals", visitor.open(response.headers["Location"])
    second_tab.post()
    yield "paid, another tab", visitor.open(response.headers["Location"])
    shop.refund(first, "--amount", "4")
    yield "refunded in part", visitor.open(first.path)
    shop.refund(first)
    yield "refunded", visitor.open(first.path)
    yield "payments", visitor.open("/receipts")
    stranger = Visitor(browser, shop)
    yield "paid, another browser", stranger.open(response.headers["Location"])
    visitor.open("/receipts")
    yield "forgotten", visitor.press("Forget this browser")
    visitor.context.close()
    stranger.context.close()


def _in_doubt(browser: Any, shop: ShopWithoutRecovery) -> Iterator[tuple[str, Visitor]]:
    visitor = Visitor(browser, shop)
    form = visitor.form(SILENT)
    second_client = Shopper(httpx.Client(base_url=shop.url, timeout=60, cookies=visitor.shopper.client.cookies))
    with ThreadPoolExecutor(1) as threads:
        post = threads.submit(form.post)
        while "/receipts/" not in second_client.open("/basket").path:
            assert not post.done()
        # The page asks for its status and would reload itself while it is examined.
        visitor.context.route("**/receipts/*.json", lambda route: route.fulfill(json={"status": "processing"}))
        yield "processing", visitor.open("/basket")
        receipt = post.result().headers["Location"]
    visitor.tab.goto("about:blank")
    visitor.context.unroute_all()
    yield "in doubt", visitor.open(receipt)
    visitor.context.close()


def _failures(browser: Any, shop: ShopWithoutRecovery) -> Iterator[tuple[str, Visitor]]:
    visitor = Visitor(browser, shop)
    paid = visitor.pay()
    form = visitor.form(slug="table-jug")
    shop.stop("bank")
    shop.refund(paid)
    yield "refund in doubt", visitor.open(paid.path)
    yield "bank unreachable", visitor.open(form.submit().path)
    with shop.without("charge"):
        yield "receipt unreadable", visitor.open(paid.path)
    with shop.without("product"):
        yield "database unreachable", visitor.open("/")
    visitor.context.close()
