"""Times are shown in the reader's own time zone, or in UTC if JavaScript is off."""

from typing import Any

import pytest

from tests.browser.buyer import Buyer
from tests.browser.conftest import RunningShop


@pytest.mark.parametrize(("scripted", "zone"), [(True, "GMT+5:30"), (False, "UTC")])
def test_times_name_their_zone(browser: Any, running_shop: RunningShop, scripted: bool, zone: str) -> None:
    context = browser.new_context(
        base_url=running_shop.url, java_script_enabled=scripted, timezone_id="Asia/Kolkata", locale="en-GB"
    )
    buyer = Buyer(context, running_shop, scripted)
    buyer.get_ready()
    buyer.press()
    buyer.wait_for_receipt()
    for url in (buyer.page.url, "/receipts"):
        buyer.page.goto(url)
        time = buyer.page.locator("time").first
        assert time.inner_text().endswith(zone)
    context.close()
