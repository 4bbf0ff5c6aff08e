"""When it was paid, in the reader's own zone; in UTC where no script says which that is."""

from typing import Any

import pytest

from tests.browser.buying import Buyer
from tests.browser.conftest import Live


@pytest.mark.parametrize(("scripted", "zone"), [(True, "GMT+5:30"), (False, "UTC")])
def test_the_receipt_s_time_names_its_zone(browser: Any, live: Live, scripted: bool, zone: str) -> None:
    context = browser.new_context(
        base_url=live.url, java_script_enabled=scripted, timezone_id="Asia/Kolkata", locale="en-GB"
    )
    buyer = Buyer(context, live, scripted)
    buyer.ready()
    buyer.press()
    buyer.arrive()
    for page in (buyer.page.url, "/receipts"):
        buyer.page.goto(page)
        time = buyer.page.locator("time").first
        assert time.inner_text().endswith(zone)
    context.close()
