"""Every page in every state, light and dark: valid, accessible, no console messages, no layout shift, not too wide."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin
from uuid import uuid4

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browser.conftest import RunningShop
from tests.browser.visits import ShopWithoutRecovery, Visitor, visit_all
from tests.dom import Element, parse
from tests.factories import MUG, ready_to_pay
from tests.lint import lint
from tests.page import Shopper

pytestmark = pytest.mark.timeout(600)

# Name → status, the beginning of the title, and a text of the page.
PAGES = {
    "catalogue": (200, "Stoneware", "Stoneware for every day"),
    "product": (200, "Morning mug –", "Morning mug"),
    "product, error": (422, "Error: Morning mug", "There is a problem"),
    "product, sold out": (200, "Butter dish", "Sold out."),
    "basket, empty": (200, "Your basket", "There is nothing in it yet."),
    "basket": (200, "Your basket", "Morning mug"),
    "basket, error": (422, "Error: Your basket", "There is a problem"),
    "basket, changed price": (200, "Changed: Your basket", "Your basket has changed"),
    "checkout": (200, "Checkout", "Who it is for"),
    "checkout, errors": (422, "Error: Checkout", "There is a problem"),
    "checkout, changed": (409, "Changed: Checkout", "Your order has changed. Nothing was charged."),
    "same order again": (409, "Order again? Checkout", "Nothing was charged now."),
    "too many declines": (429, "Error: Checkout", "Too many payments were tried here without success."),
    "damaged token": (400, "We can't read this payment form", "This try took no money."),
    "declined": (200, "Declined: €24.00", "Your card was declined No money was taken."),
    "not enough funds": (200, "Declined: €24.00", "Your card was declined No money was taken."),
    "requires action": (200, "Needs you: €24.00", "No money has been taken yet."),
    "the bank's page": (200, "Confirm your payment", "No money has been taken yet."),
    "refused at the bank": (200, "Declined: €24.00", "You refused the payment No money was taken."),
    "cancelled": (200, "Not charged: €24.00", "Nothing was charged"),
    "paid": (200, "Paid: €24.00", "Paid: €24.00"),
    "paid, three arrivals": (200, "Paid: ", "We received this payment form 3 times and charged you once."),
    "paid, another tab": (200, "Paid: ", "so the other was not charged."),
    "paid, another browser": (200, "Paid: ", "Only the browser that paid sees what was ordered"),
    "refunded in part": (200, "Refunded in part: €24.00", "€4.00 has been given back"),
    "refunded": (200, "Refunded: €24.00", "All of the €24.00 has been given back."),
    "refund in doubt": (200, "Paid: €24.00", "We are giving €24.00 back."),
    "payments": (200, "Your payments", "Refunded"),
    "not forgotten": (409, "Error: Your payments", "A payment of it has not ended yet"),
    "forgotten": (200, "Your payments", "This browser is forgotten."),
    "payments, none": (200, "Your payments", "We know of none in this browser."),
    "processing": (200, "Being confirmed: €24.00", "Please do not pay again."),
    "in doubt": (200, "Being confirmed: €24.00", "Please do not pay again."),
    "bank unreachable": (200, "Not charged: €", "the payment was never sent. No money was taken."),
    "receipt unreadable": (503, "We can't look up this payment", "Do not pay again."),
    "database unreachable": (503, "The shop can't reach its records", "This try took no money"),
    "no such page": (404, "This page does not exist", "If you typed the address"),
}
PUBLIC = {"catalogue", "product", "product, error", "product, sold out"}
"""Pages that search engines may list."""

LAYOUT_SHIFT = """() => new Promise((resolve) => {
  let sum = 0;
  new PerformanceObserver((list) => list.getEntries().forEach((entry) => { sum += entry.value; }))
    .observe({ type: "layout-shift", buffered: true });
  requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => resolve(sum), 50)));
})"""
"""Return the sum of all layout shifts, 0 if nothing moved."""

# WCAG requires 24 CSS pixels; 44 can be hit with a thumb. Links within a sentence are excepted.
SMALL_TARGETS = """() => [...document.querySelectorAll(
    "button, a.button, nav a, a.back, summary, .past a, .field input, .tick")]
  .filter((each) => each.checkVisibility() && each.getBoundingClientRect().height < 44).map((each) => each.outerHTML)"""

# The dark page differs only in its colours.
AXE: dict[str, dict[str, Any]] = {
    "light": {"resultTypes": ["violations"]},
    "dark": {"resultTypes": ["violations"], "runOnly": ["cat.color"]},
}


@dataclass
class PageReport:
    """Measurements of one page. `axe` has the accessibility errors per colour scheme."""

    status: int
    html: str
    console: list[str]
    foreign_urls: list[str]
    layout_shift: float
    small_targets: list[str]
    note_has_focus: bool
    axe: dict[str, list[str]] = field(default_factory=dict)
    page_widths: dict[int, int] = field(default_factory=dict)
    """The width of the page in CSS pixels, by the width of the screen."""

    @property
    def root(self) -> Element:
        """Return the parsed page."""
        return parse(self.html)

    def text(self, tag: str) -> str:
        """Return the text of the first element with this tag."""
        found = self.root.first(tag)
        assert found is not None
        return found.text


def examine(visitor: Visitor) -> PageReport:
    """Return a report on the page in the visitor's tab."""
    tab, response = visitor.tab, visitor.responses[-1]
    report = PageReport(
        status=response.status, html=response.text(), layout_shift=tab.evaluate(LAYOUT_SHIFT),
        small_targets=tab.evaluate(SMALL_TARGETS),
        console=[message for message in visitor.console if f"status of {response.status}" not in message],
        foreign_urls=[url for url in visitor.requested if not url.startswith(visitor.origins)],
        note_has_focus=tab.evaluate("document.activeElement.matches('[data-focus]')"),
    )  # fmt: skip
    for scheme, rules in AXE.items():
        tab.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        found = Axe().run(tab, options=rules).response["violations"]
        report.axe[scheme] = [f"{each['id']}: {node['html']}" for each in found for node in each["nodes"]]
    tab.emulate_media(color_scheme="light")
    tab.set_viewport_size({"width": 320, "height": 640})
    report.page_widths[320] = tab.evaluate("document.documentElement.scrollWidth")
    tab.set_viewport_size({"width": 390, "height": 844})
    return report


@pytest.fixture(scope="session")
def shop_without_recovery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShopWithoutRecovery]:
    shop = ShopWithoutRecovery(tmp_path_factory.mktemp("pages"))
    shop.start()
    yield shop
    shop.stop_all()


@pytest.fixture(scope="session")
def reports(browser: Any, shop_without_recovery: ShopWithoutRecovery) -> dict[str, PageReport]:
    """Visit every page once, for all tests."""
    return {name: examine(visitor) for name, visitor in visit_all(browser, shop_without_recovery)}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_correct_and_accessible(name: str, reports: dict[str, PageReport]) -> None:
    report, (status, title, text) = reports[name], PAGES[name]
    assert report.status == status
    assert report.text("title").startswith(title)
    assert text in report.text("main")
    lint(report.root)
    assert report.axe == {"light": [], "dark": []}
    assert report.console == []
    assert report.foreign_urls == []
    assert report.layout_shift < 0.001
    assert report.page_widths == {320: 320}
    assert report.small_targets == []
    meta = {each.attrs.get("name") for each in report.root.all("meta")}
    assert ("robots" in meta, "description" in meta) == (name not in PUBLIC, name in PUBLIC)


def test_every_listed_page_is_visited(reports: dict[str, PageReport]) -> None:
    assert set(reports) == set(PAGES)


@pytest.mark.parametrize("name", [name for name, (status, *_) in PAGES.items() if status in {409, 422, 429}])
def test_a_note_about_errors_or_changes_has_the_focus(name: str, reports: dict[str, PageReport]) -> None:
    assert reports[name].note_has_focus


def test_the_checkout_and_its_files_are_small(running_shop: RunningShop) -> None:
    """The limits are in bytes without compression."""
    shopper = Shopper(httpx.Client(base_url=running_shop.url))
    page = ready_to_pay(shopper, MUG).page
    files = [each.attrs["href"] for each in page.root.all("link") if "href" in each.attrs]
    files += [each.attrs["src"] for each in page.root.all("script", "img")]
    sizes = [len(httpx.get(urljoin(running_shop.url, file)).content) for file in set(files)]
    assert len(page.response.content) < 14_000
    assert len(page.response.content) + sum(sizes) < 50_000


@pytest.fixture
def tab(browser: Any, running_shop: RunningShop) -> Iterator[Any]:
    """Yield a new tab of the browser."""
    context = browser.new_context(base_url=running_shop.url)
    context.set_default_timeout(20_000)
    yield context.new_page()
    context.close()


def focus_by_keyboard(tab: Any, selector: str) -> None:
    """Press the Tab key until the element has the focus. Check that the focus is visible."""
    for _ in range(60):
        tab.keyboard.press("Tab")
        if tab.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
            return
    raise AssertionError(f"the Tab key never reached {selector}")


def test_a_shopper_can_pay_with_the_keyboard_alone(tab: Any) -> None:
    tab.goto(f"/products/{MUG}")
    for selector, url in (("main button", "**/basket"), ("a.button.wide", "**/checkout")):
        focus_by_keyboard(tab, selector)
        tab.keyboard.press("Enter")
        tab.wait_for_url(url)
    focus_by_keyboard(tab, "button[data-busy]")
    tab.keyboard.press("Enter")
    tab.get_by_text("There is a problem").wait_for()
    focus_by_keyboard(tab, "[href='#email']")
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "email"
    tab.keyboard.type(f"{uuid4().hex}@example.org")
    values = {"name": "Ada", "card_number": "4242424242424242", "card_expiry": "1249", "card_cvc": "123"}
    for field_id, value in values.items():
        focus_by_keyboard(tab, f"#{field_id}")
        tab.keyboard.type(value)
    assert tab.input_value("#card_number") == "4242 4242 4242 4242"
    assert tab.input_value("#card_expiry") == "12/49"
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/receipts/*")
    assert tab.title().startswith("Paid: €24.00")
