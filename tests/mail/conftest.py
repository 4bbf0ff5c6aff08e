"""Fixtures that send the shop's e-mails to an SMTP server of the test's own."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.cli import _receipt_email
from app.limiter import make_limiter
from app.mail import outbox, sending
from app.mail.pace import Pace
from tests.factories import fields, ready_to_pay
from tests.mail.smtp_server import SmtpServer
from tests.page import Page
from tests.shops import Shop

Send = Callable[[outbox.LeasedEmail], None]


def new_pace() -> Pace:
    """Return the limits of a worker that has sent nothing yet."""
    return Pace(make_limiter("memory://"))


@pytest.fixture
def smtp_server() -> Iterator[SmtpServer]:
    server = SmtpServer()
    yield server
    server.close()


@pytest.fixture
def send(smtp_server: SmtpServer) -> Send:
    """Return a function that sends an e-mail by SMTP, as recovery does."""
    return sending.sender(
        _receipt_email, new_pace(), "Test shop", "receipts@shop.invalid", smtp_server.url, Path("/nowhere")
    )


@pytest.fixture
def deliver(shop: Shop, send: Send) -> Callable[..., int]:
    """Return a function that makes one pass over the outbox and returns the number of e-mails tried.

    Each pass has an app context of its own, as in recovery.
    """

    def one_pass(send: Send = send) -> int:
        with shop.app.app_context():
            return outbox.run(send)

    return one_pass


def pay(shop: Shop, **changes: Any) -> Page:
    """Pay an order of €24.00 and return its receipt. `changes` are fields of the checkout form."""
    page = ready_to_pay(shop.shopper(), **fields(**changes)).submit()
    assert page.heading == "Paid: €24.00"
    return page


def make_due(shop: Shop) -> None:
    """Let every lease and pause of the outbox run out."""
    shop.execute("UPDATE outbox_email SET send_at = (SELECT created_at FROM charge WHERE id = charge_id)")
