"""A shop whose letters go to a post office of the test's own, or into a folder."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.cli import _receipt_email
from app.mail import outbox, sending
from tests.factories import fields, ready_to_pay
from tests.mail.post_office import PostOffice
from tests.page import Page
from tests.shops import Shop

Send = Callable[[outbox.LeasedEmail], None]


@pytest.fixture
def post_office() -> Iterator[PostOffice]:
    office = PostOffice()
    yield office
    office.shut()


@pytest.fixture
def send(post_office: PostOffice) -> Send:
    """Sends a letter by SMTP, as recovery does."""
    return sending.sender(_receipt_email, "Test shop", "receipts@shop.invalid", post_office.url, Path("/nowhere"))


@pytest.fixture
def deliver(shop: Shop, send: Send) -> Callable[..., int]:
    """One pass of the outbox; how many letters were tried. Its context is not a shopper's: it ends with the pass."""

    def one_pass(send: Send = send) -> int:
        with shop.app.app_context():
            return outbox.run(send)

    return one_pass


def pay(shop: Shop, **changes: Any) -> Page:
    """A paid order; its receipt."""
    page = ready_to_pay(shop.shopper(), **fields(**changes)).submit()
    assert page.heading == "Paid: €24.00"
    return page


def make_due(shop: Shop) -> None:
    """Leases and pauses run out."""
    shop.execute("UPDATE outbox_email SET send_at = (SELECT created_at FROM charge WHERE id = charge_id)")
