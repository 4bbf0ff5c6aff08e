"""Hosts whose clocks are days apart sell from one database: what a shopper pays does not depend on a host's clock.

The clock is replaced in every module of the shop that reads the host's. The database and the bank keep their own.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from time import time

import pytest
from itsdangerous import timed

from app.charges import tokens
from app.shop import checkout, receipts
from tests.factories import BOWL, checkout_form, fill_basket, ready_to_pay
from tests.recovery import recover, recover_and_audit
from tests.shops import Shop

DAY = 86_400.0


@pytest.fixture
def host_is_ahead(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return a function that sets how many seconds the clock of the next request's host is ahead."""

    def set_clock(seconds: float) -> None:
        class Clock(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
                return datetime.now(UTC) + timedelta(seconds=seconds)

        monkeypatch.setattr(timed.TimestampSigner, "get_timestamp", lambda _signer: int(time() + seconds))
        for module in (tokens, checkout):
            monkeypatch.setattr(module, "time", lambda: time() + seconds)
        monkeypatch.setattr(receipts, "datetime", Clock)

    return set_clock


@pytest.mark.parametrize("ahead", [DAY, -DAY], ids=["ahead", "behind"])
def test_a_form_is_shown_by_one_host_and_sent_to_another(
    shop: Shop, host_is_ahead: Callable[[float], None], ahead: float
) -> None:
    """Recovery runs on the second host while the first answer is shown, and looks at nothing too early."""
    host_is_ahead(ahead)
    shopper = shop.shopper()
    fill_basket(shopper)
    form = checkout_form(shopper)
    host_is_ahead(-ahead)
    paid = form.submit()
    assert paid.heading == "Paid: \u20ac24.00"
    assert recover(shop) == 0
    host_is_ahead(ahead)
    assert form.submit().path == paid.path
    assert len(shop.statement()) == 1
    recover_and_audit(shop)


@pytest.mark.parametrize("ahead", [1, 60, 600], ids=["a second", "a minute", "ten minutes"])
def test_a_cookie_of_a_host_that_is_ahead_keeps_its_basket_and_payments(
    shop: Shop, host_is_ahead: Callable[[float], None], ahead: float
) -> None:
    host_is_ahead(ahead)
    shopper = shop.shopper()
    paid = ready_to_pay(shopper).submit()
    fill_basket(shopper, BOWL)
    host_is_ahead(0)
    assert "Supper bowl" in shopper.open("/basket").text
    assert "Keep this link" in shopper.open(paid.path).text
    assert "Thank you, Ada Example." in shopper.open(paid.path).text
    assert checkout_form(shopper).submit().heading == "Paid: €32.00"


def test_a_cookie_that_is_too_old_is_not_accepted(shop: Shop, host_is_ahead: Callable[[float], None]) -> None:
    shopper = shop.shopper()
    fill_basket(shopper)
    host_is_ahead(shop.app.permanent_session_lifetime.total_seconds() + 60)
    assert "There is nothing in it yet." in shopper.open("/basket").text
