"""Every page in every state, light and dark: accessible, valid, quiet, still, and as wide as the screen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin
from uuid import uuid4

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browser.conftest import Live
from tests.browser.walk import Town, Visitor, walk
from tests.dom import Element, parse
from tests.factories import MUG, ready_to_pay
from tests.lint import lint
from tests.page import Shopper

pytestmark = pytest.mark.timeout(600)

# Name → status, how its title begins, and what it says first.
PAGES = {
    "catalogue": (200, "Stoneware", "Stoneware for every day"),
    "product": (200, "Morning mug –", "Morning mug"),
    "product, error": (422, "Error: Morning mug", "There is a problem"),
    "product, sold out": (200, "Butter dish", "Sold out."),
    "basket, empty": (200, "Your basket", "There is nothing in it yet."),
    "basket": (200, "Your basket", "Morning mug"),
    "basket, error": (422, "Error: Your basket", "There is a problem"),
    "basket, another price": (200, "Changed: Your basket", "Your basket has changed"),
    "checkout": (200, "Checkout", "Who it is for"),
    "checkout, errors": (422, "Error: Checkout", "There is a problem"),
    "checkout, changed": (409, "Changed: Checkout", "Your order has changed. Nothing was charged."),
    "order again": (409, "Order again? Checkout", "Nothing was charged now."),
    "too many tries": (429, "Error: Checkout", "Too many cards were declined. Nothing was charged."),
    "form cut short": (400, "This payment form can't be read", "Nothing was charged."),
    "declined": (200, "Declined: €24.00", "Your card was declined No money was taken."),
    "not enough funds": (200, "Declined: €24.00", "Your card was declined No money was taken."),
    "needs the shopper": (200, "Needs you: €24.00", "No money has been taken yet."),
    "the bank's page": (200, "Confirm your payment", "No money has been taken yet."),
    "refused at the bank": (200, "Declined: €24.00", "You refused the payment No money was taken."),
    "given up": (200, "Not charged: €24.00", "Nothing was charged"),
    "paid": (200, "Paid: €24.00", "Paid: €24.00"),
    "paid, three arrivals": (200, "Paid: ", "We received this payment form 3 times and charged you once."),
    "paid, another tab": (200, "Paid: ", "so the other was not charged."),
    "paid, foreign browser": (200, "Paid: ", "Only the browser that paid sees what was ordered"),
    "refunded in part": (200, "Refunded in part: €24.00", "€4.00 has been given back"),
    "refunded": (200, "Refunded: €24.00", "All of the €24.00 has been given back."),
    "refund on its way": (200, "Paid: €24.00", "€24.00 is on its way back to you"),
    "payments": (200, "Your payments", "Refunded"),
    "payments, none": (200, "Your payments", "There are none yet."),
    "being confirmed": (200, "Being confirmed: €24.00", "Please do not pay again."),
    "in doubt": (200, "Being confirmed: €24.00", "Please do not pay again."),
    "bank away": (200, "Not charged: €", "the payment was never sent. No money was taken."),
    "receipt can't be looked up": (503, "We can't look up this payment", "Do not pay again."),
    "records away": (503, "The shop can't reach its records", "This try took no money"),
    "no such page": (404, "This page does not exist", "If you typed the address"),
}
PUBLIC = {"catalogue", "product", "product, error", "product, sold out"}

SHIFT = """() => new Promise((tell) => {
  let sum = 0;
  new PerformanceObserver((list) => list.getEntries().forEach((entry) => { sum += entry.value; }))
    .observe({ type: "layout-shift", buffered: true });
  requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => tell(sum), 50)));
})"""
# 24 CSS pixels is what WCAG asks for; thumbs ask for 44. Links within a sentence are excepted.
SMALL = """() => [...document.querySelectorAll(
    "button, a.button, nav a, a.back, summary, .past a, .field input, .tick")]
  .filter((each) => each.checkVisibility() && each.getBoundingClientRect().height < 44).map((each) => each.outerHTML)"""

# By night only colours are others.
AXE: dict[str, dict[str, Any]] = {
    "light": {"resultTypes": ["violations"]},
    "dark": {"resultTypes": ["violations"], "runOnly": ["cat.color"]},
}


@dataclass
class Sight:
    """What was found on one page."""

    status: int
    html: str
    said: list[str]
    abroad: list[str]
    shift: float
    small: list[str]
    focus: bool
    axe: dict[str, list[str]] = field(default_factory=dict)
    too_wide: dict[int, int] = field(default_factory=dict)

    @property
    def root(self) -> Element:
        return parse(self.html)

    def text(self, tag: str) -> str:
        found = self.root.first(tag)
        assert found is not None
        return found.text


def look(visitor: Visitor) -> Sight:
    """Everything about the page that the visitor has before them."""
    tab, answer = visitor.tab, visitor.answers[-1]
    sight = Sight(
        status=answer.status, html=answer.text(), shift=tab.evaluate(SHIFT), small=tab.evaluate(SMALL),
        said=[words for words in visitor.said if f"status of {answer.status}" not in words],
        abroad=[url for url in visitor.asked if not url.startswith(visitor.homes)],
        focus=tab.evaluate("document.activeElement.matches('[data-focus]')"),
    )  # fmt: skip
    for scheme, rules in AXE.items():
        tab.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        found = Axe().run(tab, options=rules).response["violations"]
        sight.axe[scheme] = [f"{each['id']}: {node['html']}" for each in found for node in each["nodes"]]
    tab.emulate_media(color_scheme="light")
    tab.set_viewport_size({"width": 320, "height": 640})
    sight.too_wide[320] = tab.evaluate("document.documentElement.scrollWidth")
    tab.set_viewport_size({"width": 390, "height": 844})
    return sight


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    town = Town(tmp_path_factory.mktemp("town"))
    town.start()
    yield town
    town.stop_all()


@pytest.fixture(scope="session")
def seen(browser: Any, town: Town) -> dict[str, Sight]:
    """One walk past all pages."""
    return {name: look(visitor) for name, visitor in walk(browser, town)}


@pytest.mark.parametrize("name", PAGES)
def test_page(name: str, seen: dict[str, Sight]) -> None:
    sight, (status, title, words) = seen[name], PAGES[name]
    assert sight.status == status
    assert sight.text("title").startswith(title)
    assert words in sight.text("main")
    lint(sight.root)
    assert sight.axe == {"light": [], "dark": []}
    assert sight.said == []
    assert sight.abroad == []
    assert sight.shift < 0.001
    assert sight.too_wide == {320: 320}
    assert sight.small == []
    meta = {each.attrs.get("name") for each in sight.root.all("meta")}
    assert ("robots" in meta, "description" in meta) == (name not in PUBLIC, name in PUBLIC)


def test_the_walk_is_what_the_list_says(seen: dict[str, Sight]) -> None:
    assert set(seen) == set(PAGES)


@pytest.mark.parametrize("name", [name for name, (status, *_) in PAGES.items() if status in {409, 422, 429}])
def test_what_is_wrong_takes_the_focus(name: str, seen: dict[str, Sight]) -> None:
    assert seen[name].focus


def test_checkout_is_small(live: Live) -> None:
    """All that a browser fetches for it, even if nothing between here and there compresses it."""
    shopper = Shopper(httpx.Client(base_url=live.url))
    page = ready_to_pay(shopper, MUG).page
    files = [each.attrs["href"] for each in page.root.all("link") if "href" in each.attrs]
    files += [each.attrs["src"] for each in page.root.all("script", "img")]
    sizes = [len(httpx.get(urljoin(live.url, file)).content) for file in set(files)]
    assert len(page.answer.content) < 14_000
    assert len(page.answer.content) + sum(sizes) < 50_000


@pytest.fixture
def keyboard(browser: Any, live: Live) -> Iterator[Any]:
    """A tab of somebody who has no mouse."""
    context = browser.new_context(base_url=live.url)
    context.set_default_timeout(20_000)
    yield context.new_page()
    context.close()


def tab_to(page: Any, selector: str) -> None:
    """Press Tab until it has the focus, and see that it shows."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("(wanted) => document.activeElement.matches(wanted)", selector):
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
            return
    raise AssertionError(f"never came to {selector}")


def type_all(page: Any, typed: dict[str, str]) -> None:
    for name, value in typed.items():
        tab_to(page, f"#{name}")
        page.keyboard.type(value)


def test_paying_by_keyboard_alone(keyboard: Any) -> None:
    keyboard.goto(f"/products/{MUG}")
    for selector, url in (("main button", "**/basket"), ("a.button.wide", "**/checkout")):
        tab_to(keyboard, selector)
        keyboard.keyboard.press("Enter")
        keyboard.wait_for_url(url)
    tab_to(keyboard, "button[data-busy]")
    keyboard.keyboard.press("Enter")
    keyboard.get_by_text("There is a problem").wait_for()
    tab_to(keyboard, "[href='#email']")
    keyboard.keyboard.press("Enter")
    assert keyboard.evaluate("document.activeElement.id") == "email"
    keyboard.keyboard.type(f"{uuid4().hex}@example.org")
    type_all(keyboard, {"name": "Ada", "card_number": "4242424242424242", "card_expiry": "1249", "card_cvc": "123"})
    assert keyboard.input_value("#card_number") == "4242 4242 4242 4242"
    assert keyboard.input_value("#card_expiry") == "12/49"
    keyboard.keyboard.press("Enter")
    keyboard.wait_for_url("**/receipts/*")
    assert keyboard.title().startswith("Paid: €24.00")
