"""The cookie is valid for 90 days after the last visit, and is set anew once a day."""

from email.utils import parsedate_to_datetime
from http.cookies import SimpleCookie
from time import time
from unittest.mock import patch

import pytest
from itsdangerous import TimestampSigner

from tests.factories import ready_to_pay
from tests.page import Page, Shopper
from tests.shops import Shop

DAY = 86_400


@pytest.fixture
def receipt(shop: Shop) -> Page:
    return ready_to_pay(shop.shopper()).submit()


def away_for(days: float, shop: Shop, shopper: Shopper) -> None:
    """Replace the browser's cookie by the one that it would have if it had been set so many days ago."""
    serializer = shop.app.session_interface.get_signing_serializer(shop.app)  # type: ignore[attr-defined]
    content = serializer.loads(shopper.client.cookies["payonce"])
    with patch.object(TimestampSigner, "get_timestamp", lambda _self: int(time() - days * DAY)):
        signed = serializer.dumps(content)
    shopper.client.cookies.clear()
    shopper.client.cookies.set("payonce", signed, domain="127.0.0.1")


def knows_payment(shopper: Shopper, receipt: Page) -> bool:
    return receipt.path in shopper.open("/receipts").links.values()


def test_most_pages_set_no_cookie(shop: Shop, receipt: Page) -> None:
    shopper = receipt.shopper
    away_for(0.9, shop, shopper)
    for path in ("/", receipt.path, "/receipts"):
        assert "Set-Cookie" not in shopper.client.get(path).headers


def test_a_cookie_that_is_a_day_old_is_set_anew(shop: Shop, receipt: Page) -> None:
    shopper = receipt.shopper
    away_for(1.1, shop, shopper)
    cookie = SimpleCookie(shopper.client.get("/").headers["Set-Cookie"])["payonce"]
    left = parsedate_to_datetime(cookie["expires"]).timestamp() - time()
    assert 89.9 * DAY < left < 90.1 * DAY
    assert "Set-Cookie" not in shopper.client.get("/").headers
    assert knows_payment(shopper, receipt)


def test_a_browser_is_known_for_90_days_after_each_visit(shop: Shop, receipt: Page) -> None:
    shopper = receipt.shopper
    for _ in range(3):
        away_for(89.9, shop, shopper)
        assert knows_payment(shopper, receipt)
    away_for(90.1, shop, shopper)
    assert not knows_payment(shopper, receipt)
    assert shopper.open(receipt.url).heading == "Paid: €24.00", "its link still tells how the payment ended"


def test_open_forms_stay_valid_when_the_cookie_is_set_anew(shop: Shop) -> None:
    form = ready_to_pay(shop.shopper())
    away_for(2, shop, form.page.shopper)
    assert form.submit().heading == "Paid: €24.00"
