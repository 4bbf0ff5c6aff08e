"""A walk past every page of the shop in every state that it has: each is reached once and handed over as it stands.

What only prepares a page is done over plain HTTP with the same cookies; the browser opens it, or sends its form.
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

from tests.browser.conftest import ROOT, Live
from tests.factories import APPROVES, ASKS, BOWL, DECLINES, MUG, NO_FUNDS, checkout_form, fill_basket, ready_to_pay
from tests.page import Form, Page, Shopper

SILENT = "4000 0000 0006 0063"
TRIES = 10
"""Declines that one browser may have; after them no card is tried."""


class Town(Live):
    """A shop with nobody who looks after what is in doubt, so that it stays, and one worker that counts declines."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.env |= {"WEB_CONCURRENCY": "1", "GATEWAY_DEADLINE": "8"}

    def start(self) -> None:
        super().start()
        self.stop("recovery")

    def refund(self, receipt: Page, *words: str) -> None:
        """What the merchant's command does; it ends with 3 where the bank does not say what became of it."""
        command = self._flask("refund", receipt.path.rpartition("/")[2], *words)
        done = subprocess.run(command, env=self.env, cwd=ROOT, capture_output=True)
        assert done.returncode in (0, 3), done.stderr

    def sql(self, statement: str) -> None:
        """Change what is stored behind the shop's back."""
        with closing(sqlite3.connect(self.folder / "shop.sqlite", timeout=10)) as storage, storage:
            storage.execute(statement)

    @contextmanager
    def without(self, table: str) -> Iterator[None]:
        """A storage that fails whoever reads this table."""
        self.sql(f"ALTER TABLE {table} RENAME TO away")
        yield
        self.sql(f"ALTER TABLE away RENAME TO {table}")


class Visitor:
    """One shopper: a browser's tab, and a plain client with the same cookies that prepares what it shows.

    Of the page in the tab it notes what was `said` on the console, `asked` of any server, and the page's `answers`.
    """

    def __init__(self, browser: Any, town: Town) -> None:
        self.homes = (town.url, town.env["SANDBOX_BANK_URL"])
        self.context = browser.new_context(base_url=town.url, viewport={"width": 390, "height": 844})
        self.context.set_default_timeout(60_000)
        self.tab = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.answers: list[Any] = []
        self.tab.on("console", lambda message: self.said.append(message.text))
        self.tab.on("pageerror", lambda error: self.said.append(str(error)))
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.on("response", lambda answer: answer.request.is_navigation_request() and self.answers.append(answer))
        self.shopper = Shopper(httpx.Client(base_url=town.url, timeout=60))
        self.email = f"{uuid4().hex}@example.org"

    def see(self, path: str) -> Visitor:
        """Open a page in the browser."""
        for name, value in self.shopper.client.cookies.items():
            self.context.add_cookies([{"name": name, "value": value, "url": str(self.shopper.client.base_url)}])
        self._forget()
        self.tab.goto(path)
        return self

    def form(self, card: str = APPROVES, slug: str = MUG) -> Form:
        """A payment form, filled in and not sent yet."""
        return ready_to_pay(self.shopper, slug, email=self.email, card_number=card)

    def paid(self, card: str = APPROVES, slug: str = MUG) -> Page:
        """The receipt of a form that was sent once."""
        return self.form(card, slug).submit()

    def fill(self) -> None:
        """Type into the form that the tab shows."""
        typed = {"email": self.email, "name": "Ada Example", "card_number": APPROVES, "card_expiry": "1249",
                 "card_cvc": "123"}  # fmt: skip
        for name, value in typed.items():
            self.tab.fill(f"#{name}", value)

    def press(self, words: str) -> Visitor:
        """Push a button and see where it leads."""
        self._forget()
        with self.tab.expect_navigation():
            self.tab.get_by_role("button", name=words).first.click()
        return self

    def _forget(self) -> None:
        """What was noted of the page before."""
        for notes in (self.said, self.asked, self.answers):
            notes.clear()


def walk(browser: Any, town: Town) -> Iterator[tuple[str, Visitor]]:
    """Every page in every state, by name, with the shopper who looks at it. What breaks the shop comes last."""
    for part in (_shelves, _checkout, _told, _declined, _receipts, _in_doubt, _breakdowns):
        yield from part(browser, town)


def _shelves(browser: Any, town: Town) -> Iterator[tuple[str, Visitor]]:
    ann = Visitor(browser, town)
    yield "catalogue", ann.see("/")
    yield "basket, empty", ann.see("/basket")
    yield "payments, none", ann.see("/receipts")
    yield "no such page", ann.see("/no-such-page")
    yield "product", ann.see(f"/products/{MUG}")
    ann.tab.fill("#quantity", "1000")
    yield "product, error", ann.press("Add to basket")
    town.sql("UPDATE product SET stock = 0 WHERE slug = 'butter-dish'")
    yield "product, sold out", ann.see("/products/butter-dish")
    fill_basket(ann.shopper, MUG, 2)
    fill_basket(ann.shopper, BOWL)
    yield "basket", ann.see("/basket")
    ann.tab.fill(f"#quantity-{MUG}", "")
    yield "basket, error", ann.press("Update Morning mug")
    town.sql(f"UPDATE product SET price = price + 100 WHERE slug = '{BOWL}'")
    yield "basket, another price", ann.see("/basket")
    ann.context.close()


def _checkout(browser: Any, town: Town) -> Iterator[tuple[str, Visitor]]:
    ben = Visitor(browser, town)
    fill_basket(ben.shopper)
    yield "checkout", ben.see("/checkout")
    yield "checkout, errors", ben.press("Pay")
    ben.see("/checkout")
    fill_basket(ben.shopper, MUG, 3)
    ben.fill()
    yield "checkout, changed", ben.press("Pay")
    ben.see("/checkout")
    ben.tab.evaluate("document.querySelector('[name=checkout_token]').value = 'cut'")
    yield "form cut short", ben.press("Pay")
    ben.context.close()


def _told(browser: Any, town: Town) -> Iterator[tuple[str, Visitor]]:
    """Questions instead of a charge: the same order again, too many cards."""
    cleo = Visitor(browser, town)
    cleo.paid()
    fill_basket(cleo.shopper)
    cleo.see("/checkout")
    cleo.fill()
    yield "order again", cleo.press("Pay")
    cleo.context.close()
    dan = Visitor(browser, town)
    dan.paid(DECLINES)
    for _ in range(TRIES - 1):
        checkout_form(dan.shopper, email=dan.email, card_number=DECLINES).submit()
    dan.see("/checkout")
    dan.fill()
    yield "too many tries", dan.press("Pay")
    dan.context.close()


def _declined(browser: Any, town: Town) -> Iterator[tuple[str, Visitor]]:
    eve = Visitor(browser, town)
    yield "declined", eve.see(eve.paid(DECLINES).path)
    yield "not enough funds", eve.see(checkout_form(eve.shopper, card_number=NO_FUNDS).submit().path)
    asked = checkout_form(eve.shopper, email=eve.email, card_number=ASKS).post()
    waiting = eve.shopper.open("/checkout")
    yield "needs the shopper", eve.see(waiting.path)
    yield "the bank's page", eve.see(asked.headers["Location"])
    waiting.submit("Give this payment up")
    yield "given up", eve.see(waiting.path)
    refused = checkout_form(eve.shopper, email=eve.email, card_number=ASKS).post().headers["Location"]
    eve.see(refused)
    yield "refused at the bank", eve.press("Refuse")
    eve.context.close()


def _receipts(browser: Any, town: Town) -> Iterator[tuple[str, Visitor]]:
    fay = Visitor(browser, town)
    first = fay.paid()
    yield "paid", fay.see(first.path)
    form, second_tab = fay.form(slug=BOWL), checkout_form(fay.shopper, email=fay.email)
    for _ in range(3):
        answer = form.post()
    yield "paid, three arrivals", fay.see(answer.headers["Location"])
    second_tab.post()
    yield "paid, another tab", fay.see(answer.headers["Location"])
    town.refund(first, "--amount", "4")
    yield "refunded in part", fay.see(first.path)
    town.refund(first)
    yield "refunded", fay.see(first.path)
    yield "payments", fay.see("/receipts")
    gil = Visitor(browser, town)
    yield "paid, foreign browser", gil.see(answer.headers["Location"])
    fay.context.close()
    gil.context.close()


def _in_doubt(browser: Any, town: Town) -> Iterator[tuple[str, Visitor]]:
    hal = Visitor(browser, town)
    form = hal.form(SILENT)
    twin = Visitor(browser, town)
    twin.shopper.client.cookies = hal.shopper.client.cookies
    with ThreadPoolExecutor(1) as other:
        sent = other.submit(form.post)
        while "/receipts/" not in twin.shopper.open("/basket").path:
            assert not sent.done()
        # The page asks how it stands and would move on in the middle of our look.
        hal.context.route("**/receipts/*.json", lambda route: route.fulfill(json={"status": "processing"}))
        yield "being confirmed", hal.see("/basket")
        receipt = sent.result().headers["Location"]
    hal.tab.goto("about:blank")
    hal.context.unroute_all()
    yield "in doubt", hal.see(receipt)
    hal.context.close()
    twin.context.close()


def _breakdowns(browser: Any, town: Town) -> Iterator[tuple[str, Visitor]]:
    ida = Visitor(browser, town)
    paid = ida.paid()
    form = ida.form(slug="table-jug")
    town.stop("bank")
    town.refund(paid)
    yield "refund on its way", ida.see(paid.path)
    yield "bank away", ida.see(form.submit().path)
    with town.without("charge"):
        yield "receipt can't be looked up", ida.see(paid.path)
    with town.without("product"):
        yield "records away", ida.see("/")
    ida.context.close()
