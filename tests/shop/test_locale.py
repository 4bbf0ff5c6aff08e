"""Money and dates in the format of the reader's locale. The text of the page is English, and `lang` says so."""

import re

import pytest

from tests.dom import Element
from tests.factories import ready_to_pay
from tests.page import Page
from tests.shops import Shop

# Formats from CLDR. \xa0 and \u202f are spaces without a line break; \u200f sets the direction from right to left.
FORMATS = {
    "de": ("48,00\xa0€", r"\d+\. \S+ \d{4}, \d\d:\d\d:\d\d UTC"),
    "de-AT": ("€\xa048,00", r"\d+\. \S+ \d{4}, \d\d:\d\d:\d\d UTC"),
    "fr": ("48,00\xa0€", r"\d+ \S+ \d{4}, \d\d:\d\d:\d\d TU"),
    "ja": ("€48.00", r"\d{4}年\d+月\d+日 \d+:\d\d:\d\d UTC"),
    "ar": ("\u200f48.00\xa0€", r"\d+ \S+ \d{4}، \d+:\d\d:\d\d \S+ UTC"),
    "en-GB": ("€48.00", r"\d+ \w+ \d{4}, \d\d:\d\d UTC"),
}


def receipt(shop: Shop, accept: str) -> Page:
    """Pay an order of two mugs. Return its receipt as a browser with this Accept-Language gets it."""
    shopper = shop.shopper()
    paid = ready_to_pay(shopper, quantity=2).submit()
    return shopper.open(paid.path, headers={"Accept-Language": accept})


def time(page: Page) -> Element:
    """Return the first <time> element of the page."""
    element = page.root.first("time")
    assert element is not None
    return element


@pytest.mark.parametrize("accept", FORMATS)
def test_money_and_dates_have_the_readers_format(shop: Shop, accept: str) -> None:
    """A date is marked with its own language, because the page around it is English."""
    page = receipt(shop, accept)
    money, date = FORMATS[accept]
    html = page.root.first("html")
    assert html is not None and html.attrs["lang"] == "en"
    assert page.heading.startswith("Paid: ")
    assert time(page).attrs.get("lang", "en") == accept
    assert "Accept-Language" in page.response.headers["Vary"]
    assert money in page.response.text
    assert re.fullmatch(date, time(page).text.replace("\u202f", " ").replace("\xa0", " "))


def test_an_unknown_language_falls_back_to_english(shop: Shop) -> None:
    shopper = shop.shopper()
    for accept in ("", "*", "xx-YY", "de_DE; q=x", "../../etc", "a" * 500, "tlh, *;q=0.1"):
        assert "€24.00" in shopper.open("/products/morning-mug", headers={"Accept-Language": accept}).text


def test_the_first_known_language_is_used(shop: Shop) -> None:
    page = shop.shopper().open("/products/morning-mug", headers={"Accept-Language": "tlh, en;q=0.3, de;q=0.8"})
    assert "24,00\xa0€" in page.response.text


def test_the_first_ten_languages_count(shop: Shop) -> None:
    for unknown, price in ((9, "24,00\xa0€"), (10, "€24.00"), (2000, "€24.00")):
        accept = "xx," * unknown + "de"
        page = shop.shopper().open("/products/morning-mug", headers={"Accept-Language": accept})
        assert price in page.response.text, unknown
