"""A stranger gets few e-mails, whoever names their address; none is lost, and no address stops the other e-mails."""

from collections.abc import Callable
from pathlib import Path

import pytest

from app.cli import _receipt_email
from app.limiter import make_limiter
from app.mail import outbox, sending
from app.mail.outbox import Postponed
from app.mail.pace import Pace
from tests.factories import ready_to_pay
from tests.mail.conftest import Send, make_due, new_pace, pay
from tests.mail.smtp_server import SmtpServer
from tests.shops import Shop

Deliver = Callable[..., int]

SPELLINGS = ["ada.lane@example.org", "adalane@example.org", "Ada.Lane@Example.org", "adalane+1@example.org",
             "a.d.a.lane+x@EXAMPLE.ORG", "adalane+y@example.org", "ada.lane+z@example.org"]  # fmt: skip
"""One mailbox, at most providers."""

HOUR = 3600.0


@pytest.fixture
def pace() -> Pace:
    return new_pace()


@pytest.fixture
def send(pace: Pace, smtp_server: SmtpServer) -> Send:
    return sending.sender(_receipt_email, pace, "Test shop", "receipts@shop.invalid", smtp_server.url, Path("/nowhere"))


def let_pass(pace: Pace, seconds: float) -> None:
    """Move everything that the limits have counted into the past."""
    expirations = pace._limiter.storage.expirations  # type: ignore[attr-defined]
    for key in expirations:
        expirations[key] -= seconds


def test_one_person_gets_five_emails_at_once_and_the_others_later(
    shop: Shop, deliver: Deliver, smtp_server: SmtpServer, pace: Pace
) -> None:
    for number, address in enumerate(SPELLINGS, 1):
        assert ready_to_pay(shop.shopper(), quantity=number, email=address).submit().heading.startswith("Paid")
    pay(shop, email="grace@example.org")
    assert deliver() == 8
    assert [to for (to,), _ in smtp_server.delivered].count("<grace@example.org>") == 1
    assert (len(smtp_server.delivered), deliver()) == (6, 0), "they are not due before the hour is over"
    waiting = shop.rows("SELECT tries, gave_up_at FROM outbox_email WHERE sent_at IS NULL")
    assert [tuple(row) for row in waiting] == [(0, None)] * 2, "waiting is no failed try"
    make_due(shop)
    assert (deliver(), len(smtp_server.delivered)) == (2, 6), "the limit still holds"

    let_pass(pace, HOUR)
    make_due(shop)
    assert (deliver(), len(smtp_server.delivered)) == (2, 8)
    assert shop.value("SELECT count(*) FROM outbox_email WHERE sent_at IS NULL") == 0


def test_one_person_gets_twenty_emails_a_day(pace: Pace) -> None:
    sent = 0
    for _ in range(24):
        for _ in range(5):
            try:
                pace.check("ada@example.org")
            except Postponed as later:
                assert 0 < later.seconds <= 24 * HOUR
                break
            pace.count("ada@example.org")
            sent += 1
        let_pass(pace, HOUR)
    assert sent == 20
    pace.check("ada@example.org")


def test_failed_tries_do_not_count(shop: Shop, deliver: Deliver, smtp_server: SmtpServer) -> None:
    """After an outage of the mail server, receipts are sent at once."""
    pay(shop)
    smtp_server.refuses = True
    for _ in range(7):
        make_due(shop)
        assert deliver() == 1
    smtp_server.refuses = False
    make_due(shop)
    assert (deliver(), len(smtp_server.delivered)) == (1, 1)


def test_emails_are_sent_if_the_storage_of_the_limits_fails(capfd: pytest.CaptureFixture[str]) -> None:
    pace = Pace(make_limiter("redis://127.0.0.1:1"))
    pace.check("ada@example.org")
    pace.count("ada@example.org")
    assert capfd.readouterr().err.count("limiter_failed") == 2


def test_the_storage_of_the_limits_gets_no_address(pace: Pace) -> None:
    pace.count("ada@example.org")
    [*keys] = pace._limiter.storage.expirations  # type: ignore[attr-defined]
    assert keys and not [key for key in keys if "ada" in key or "example" in key]


STORED = ["", " ", "@", "ada", "ada@", "@example.org", "a@b\r\nBcc: x@example.org", "a@b.org\x0b",
          "=?utf-8?q?a?=@b.org", "ada@=?utf-8?b?w7w=?=.org", "a@" + "b" * 250,
          "\u202e@example.org", "a@b.org, c@d.org", "<a@b.org>",
          '"a\nb"@example.org', "ü@ü.example", "a@xn--.org", "a@\ud7ff.org"]  # fmt: skip
"""Addresses that a row may hold from before they were checked, or by an import."""


def test_no_stored_address_stops_the_other_emails(shop: Shop, smtp_server: SmtpServer) -> None:
    pay(shop, email="first@example.org")
    pay(shop, email="grace@example.org")
    for address in STORED:
        shop.execute("UPDATE charge SET email = :email WHERE email <> 'grace@example.org'", email=address)
        shop.execute("UPDATE outbox_email SET sent_at = NULL, gave_up_at = NULL, tries = 0")
        make_due(shop)
        smtp_server.delivered.clear()
        send = sending.sender(
            _receipt_email, new_pace(), "Test shop", "receipts@shop.invalid", smtp_server.url, Path("/nowhere")
        )
        with shop.app.app_context():
            assert outbox.run(send) == 2
        recipients = [to for (to,), _ in smtp_server.delivered]
        assert "<grace@example.org>" in recipients, address
        assert len(recipients) <= 2


def test_an_error_text_that_the_database_refuses_stops_no_email(shop: Shop, deliver: Deliver) -> None:
    pay(shop, email="first@example.org")
    pay(shop, email="grace@example.org")

    def fail(_email: outbox.LeasedEmail) -> None:
        raise OSError("said \x00 and \ud800")

    assert deliver(fail) == 2
    assert shop.value("SELECT count(*) FROM outbox_email WHERE note = 'OSError: said ? and ?'") == 2
