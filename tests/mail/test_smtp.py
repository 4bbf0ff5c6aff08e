"""SMTP sessions with a real server: which e-mails count as sent, and that every session ends.

A session without an end would hang until pytest's time-out.
"""

import ssl
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from typing import Any

import pytest

from app import timeouts
from app.database import COMMIT_SECONDS
from app.mail import outbox, sending, smtp
from tests.mail.conftest import make_due, pay
from tests.mail.smtp_server import DISCONNECT, ENDLESS, KEY_AND_CERTIFICATE, SILENCE, SmtpServer, smtp_server
from tests.mail.test_sending import OWED, content
from tests.network import dropping, resolving
from tests.recovery import run_audit
from tests.shops import Shop

SHORT = 0.5
"""Seconds for a whole session, of which each step may take smtp.STEP."""

STEPS = ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "."]


def message(to: str = "ada@example.org") -> EmailMessage:
    return sending.compose(content(to), "Test shop", "receipts@shop.invalid", OWED)


@pytest.fixture
def server() -> Iterator[SmtpServer]:
    with smtp_server() as server:
        yield server


@pytest.mark.parametrize("last_words", ["421 closing", "500 what?", "nonsense", DISCONNECT, SILENCE, ENDLESS])
def test_an_accepted_email_is_sent_whatever_follows(server: SmtpServer, last_words: str) -> None:
    server.answers["QUIT"] = last_words
    smtp.send(message(), server.url, 1.0)
    assert len(server.delivered) == 1


def test_an_accepted_email_is_not_sent_again(shop: Shop, deliver: Callable[..., int], smtp_server: SmtpServer) -> None:
    pay(shop)
    smtp_server.answers["QUIT"] = "421 too many connections, closing"
    assert deliver() == 1
    make_due(shop)
    assert (deliver(), len(smtp_server.delivered)) == (0, 1)
    assert shop.value("SELECT count(*) FROM outbox_email WHERE sent_at IS NOT NULL AND note IS NULL") == 1


@pytest.mark.parametrize("answer", ["451 not now", "550 never", DISCONNECT])
def test_an_email_that_was_not_accepted_is_not_sent(server: SmtpServer, answer: str) -> None:
    for step in ("CONNECT", "MAIL", "RCPT", "DATA", "."):
        server.answers = {step: answer}
        with pytest.raises(OSError):
            smtp.send(message(), server.url, 60.0)


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("answer", [ENDLESS, SILENCE])
def test_a_session_ends_by_its_deadline(server: SmtpServer, step: str, answer: str) -> None:
    server.answers[step] = answer
    with pytest.raises(OSError):
        smtp.send(message(), server.url, SHORT)


def test_a_tls_handshake_ends_by_the_deadline() -> None:
    """The server does not know that the client wants TLS, and waits for a command."""
    with smtp_server() as server, pytest.raises(OSError):
        server.answers["CONNECT"] = SILENCE
        smtp.send(message(), server.url.replace("smtp:", "smtps:"), SHORT)


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this host trust the certificate of the test server, as it would trust one of a public authority."""
    monkeypatch.setenv("SSL_CERT_FILE", str(KEY_AND_CERTIFICATE))


@pytest.mark.usefixtures("trusted")
def test_tls_from_the_beginning() -> None:
    with smtp_server(tls=True) as server:
        smtp.send(message(), server.url, 60.0)
        assert len(server.delivered) == 1


@pytest.mark.usefixtures("trusted")
def test_starttls_before_the_password(server: SmtpServer) -> None:
    server.features = ["STARTTLS", "AUTH PLAIN"]
    smtp.send(message(), server.url.replace("//", "//user:p%40ss@"), 60.0)
    assert len(server.delivered) == 1


@pytest.mark.parametrize("tls", [True, False])
def test_a_server_whose_certificate_is_not_valid_gets_neither_password_nor_email(tls: bool) -> None:
    with smtp_server(tls=tls) as server:
        server.features = ["STARTTLS", "AUTH PLAIN"]
        with pytest.raises(ssl.SSLCertVerificationError):
            smtp.send(message(), server.url.replace("//", "//user:p%40ss@"), 60.0)
        assert server.delivered == []


def test_dead_addresses_leave_time_for_a_live_one(server: SmtpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = ("127.0.0.2", "127.0.0.3")
    with dropping(dead, server.port):
        resolving(monkeypatch, *dead, "127.0.0.1")
        smtp.send(message(), server.url.replace("127.0.0.1", "localhost"), 1.5)
        assert len(server.delivered) == 1
        resolving(monkeypatch, *dead)
        with pytest.raises(OSError):
            smtp.send(message(), server.url.replace("127.0.0.1", "localhost"), SHORT)


def test_nothing_is_sent_after_the_deadline(
    shop: Shop, deliver: Callable[..., int], smtp_server: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writing the e-mail or looking up the server's name took all the time."""
    pay(shop)
    monkeypatch.setattr(sending, "SENDING_SECONDS", 0.0)
    assert (deliver(), smtp_server.delivered) == (1, [])
    assert shop.value("SELECT note FROM outbox_email") == "TimeoutError: the time for sending is over"


def test_a_lease_is_longer_than_sending_under_it() -> None:
    taking_it = COMMIT_SECONDS + timeouts.MILLISECONDS["statement_timeout"] / 1000
    assert taking_it + outbox.SENDING_SECONDS < outbox.LEASE_SECONDS


def test_a_sender_that_lost_its_lease_does_not_undo_what_another_did(
    shop: Shop, send: Any, deliver: Callable[..., int], smtp_server: SmtpServer
) -> None:
    pay(shop)

    def too_late(_email: outbox.LeasedEmail) -> None:
        make_due(shop)
        assert deliver(send) == 1
        raise TimeoutError("the time for sending is over")

    assert deliver(too_late) == 1
    assert len(smtp_server.delivered) == 1
    assert shop.rows("SELECT note, gave_up_at, tries FROM outbox_email WHERE sent_at IS NOT NULL") == [(None, None, 2)]


SPELLINGS = {
    "ada@example.org": "ada@example.org",
    "a'b+c{d}@Example.ORG": "a'b+c{d}@example.org",
    "ada@grün.de": "ada@xn--grn-ioa.de",
    "ada@faß.de": "ada@xn--fa-hia.de",
    "ada@ＥＸＡＭＰＬＥ.org": "ada@example.org",
    "ada@xn--grn-ioa.de": "ada@xn--grn-ioa.de",
}


@pytest.mark.parametrize("address", SPELLINGS)
def test_the_domain_is_sent_in_ascii(server: SmtpServer, address: str) -> None:
    smtp.send(message(address), server.url, 60.0)
    [(to, email)] = server.delivered
    assert to == [f"<{SPELLINGS[address]}>"]
    assert email["To"] == SPELLINGS[address]


def test_a_name_that_is_not_ascii_needs_a_server_that_takes_it(server: SmtpServer) -> None:
    with pytest.raises(outbox.Undeliverable):
        smtp.send(message("gr\u00fcn@gr\u00fcn.de"), server.url, 60.0)
    server.features = ["SMTPUTF8", "8BITMIME"]
    smtp.send(message("gr\u00fcn@gr\u00fcn.de"), server.url, 60.0)
    [(to, _)] = server.delivered
    assert to[0].startswith("<gr\u00fcn@xn--grn-ioa.de>")


@pytest.mark.parametrize("address", ["=?utf-8?q?ada?=@example.org", "ada@-.de", "ada@" + "x" * 64 + ".de", "ada", ""])
def test_an_address_that_can_never_be_sent_to_is_refused(address: str) -> None:
    with pytest.raises(outbox.Undeliverable):
        message(address)


def test_an_email_that_can_never_be_sent_ends_at_once_and_stays_visible(
    shop: Shop, deliver: Callable[..., int], smtp_server: SmtpServer
) -> None:
    pay(shop, email="gr\u00fcn@example.org")
    assert deliver() == 1
    make_due(shop)
    assert (deliver(), smtp_server.delivered) == (0, [])
    [(gave_up_at, sent_at, note)] = shop.rows("SELECT gave_up_at, sent_at, note FROM outbox_email")
    assert (gave_up_at is not None, sent_at) == (True, None)
    assert note == "Undeliverable: the mail server takes only addresses in ASCII (no SMTPUTF8)"
    assert run_audit(shop).attention == [f"e-mail of charge 1 given up: {note}"]
    assert 'payonce_attention{kind="email",status="given_up"} 1.0' in shop.shopper().client.get("/metrics").text
