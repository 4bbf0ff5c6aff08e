"""The mail server falls silent at any step: the connection stays open and nothing arrives. No e-mail is lost.

A proxy or a network namespace replaces the network, and each step has less time during the silence.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.cli import _receipt_email
from app.mail import sending, smtp
from tests.gateways.bank import until
from tests.mail.conftest import Send, make_due, new_pace, pay
from tests.mail.smtp_server import SmtpServer
from tests.shops import Shop
from tests.silence import AFTER, BEFORE, KINDS, Line, at, line

pytestmark = pytest.mark.slow

Deliver = Callable[..., int]

STEPS = [
    (b"ehlo", BEFORE), (b"mail FROM", BEFORE), (b"rcpt TO", AFTER), (b"data", BEFORE), (b"\r\n.\r\n", BEFORE),
    (b"\r\n.\r\n", AFTER),
]  # fmt: skip


@pytest.fixture
def engine_name() -> str:
    """Run these tests on one engine, because they are about the mail server."""
    return "sqlite"


@pytest.fixture(params=["line"])
def proxy(smtp_server: SmtpServer, request: pytest.FixtureRequest) -> Iterator[Line]:
    with line(at(smtp_server.url), request.param) as proxy:
        yield proxy


@pytest.fixture
def send(proxy: Line) -> Send:
    """Return a function that sends an e-mail through the line."""
    url = f"smtp://{proxy.host}:{proxy.port}"
    return sending.sender(_receipt_email, new_pace(), "Test shop", "receipts@shop.invalid", url, Path("/nowhere"))


@pytest.fixture
def deliver_in_silence(deliver: Deliver, monkeypatch: pytest.MonkeyPatch) -> Deliver:
    """Return `deliver` with less time for each step."""

    def one_pass() -> int:
        with monkeypatch.context() as patched:
            patched.setattr(smtp, "STEP", 0.5)
            return deliver()

    return one_pass


def outcome(shop: Shop) -> tuple[bool, bool]:
    """Return whether the only e-mail was sent, and whether there is a note that says why not."""
    [(sent_at, note)] = shop.rows("SELECT sent_at, note FROM outbox_email")
    return sent_at is not None, note is not None


@pytest.mark.parametrize(("step", "side"), STEPS)
def test_an_email_in_silence_is_sent_again(
    shop: Shop,
    deliver: Deliver,
    deliver_in_silence: Deliver,
    proxy: Line,
    smtp_server: SmtpServer,
    step: bytes,
    side: str,
) -> None:
    """Data that is sent during the silence arrives when it ends. A copy that is sent twice has the same Message-ID."""
    pay(shop)
    proxy.silence_at(step, side=side)
    assert (deliver_in_silence(), proxy.silences, outcome(shop)) == (1, 1, (False, True))
    proxy.restore()
    make_due(shop)
    assert (deliver(), outcome(shop)) == (1, (True, False))
    copies = 2 if step == b"\r\n.\r\n" else 1
    until(lambda: len(smtp_server.delivered) == copies)
    assert len({delivered.email["Message-ID"] for delivered in smtp_server.delivered}) == 1


@pytest.mark.parametrize("proxy", KINDS, indirect=True)
def test_a_mail_server_that_is_silent_from_the_start_delays_every_email(
    shop: Shop, deliver: Deliver, deliver_in_silence: Deliver, proxy: Line, smtp_server: SmtpServer
) -> None:
    for number in range(3):
        pay(shop, email=f"{number}@example.org")
    proxy.go_silent()
    assert (deliver_in_silence(), smtp_server.delivered) == (3, [])
    proxy.restore()
    make_due(shop)
    assert (deliver(), len(smtp_server.delivered)) == (3, 3)


def test_an_email_that_was_accepted_before_the_silence_is_sent_once(
    shop: Shop, deliver: Deliver, deliver_in_silence: Deliver, proxy: Line, smtp_server: SmtpServer
) -> None:
    pay(shop)
    proxy.silence_at(b"QUIT")
    assert (deliver_in_silence(), outcome(shop)) == (1, (True, False))
    proxy.restore()
    make_due(shop)
    assert (deliver(), len(smtp_server.delivered)) == (0, 1)
