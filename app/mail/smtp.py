"""One SMTP session, which ends by a deadline whatever the server does.

smtplib limits each read and each address of a host name separately. So single bytes that come slowly, or many dead
addresses, could keep a session alive for any time, longer than the lease on its e-mail. A name's look-up can't be
interrupted; if it takes too long, nothing is sent after it.
"""

import smtplib
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from email.message import EmailMessage
from time import monotonic
from typing import Any
from urllib.parse import unquote, urlsplit

from app.mail.outbox import Undeliverable
from app.watchdog import Limit

STEP = 20.0
"""Seconds in which the server must answer each step."""


class _Plain(smtplib.SMTP):
    """A session over a connection that is open already."""

    def __init__(self, line: socket.socket, host: str) -> None:
        self._line = line
        super().__init__(host, timeout=STEP)

    def _get_socket(self, *_args: object) -> socket.socket:
        return self._line


class _Encrypted(smtplib.SMTP_SSL):
    """A session over a connection that is open already, in TLS from the beginning."""

    def __init__(self, line: socket.socket, host: str) -> None:
        self._line, self._name = line, host
        super().__init__(host, timeout=STEP, context=ssl.create_default_context())

    def _get_socket(self, *_args: object) -> socket.socket:
        return self.context.wrap_socket(self._line, server_hostname=self._name)


def send(message: EmailMessage, url: str, seconds: float) -> None:
    """Send the message through smtp://user:password@host:587 or smtps://host:465.

    With smtp:// and a user, STARTTLS encrypts the connection before the password is sent. The server's certificate
    must be valid. Raises OSError if the message was not accepted within `seconds`, and Undeliverable if this server
    can't take its address.
    """
    parts = urlsplit(url)
    kind = _Encrypted if parts.scheme == "smtps" else _Plain
    with _connected(parts.hostname or "", parts.port or kind.default_port, seconds) as line:
        session = kind(line, parts.hostname or "")
        with closing(session):
            if parts.username:
                if parts.scheme == "smtp":
                    # smtplib's own context would accept any certificate, and send the password to anybody.
                    session.starttls(context=ssl.create_default_context())
                session.login(unquote(parts.username), unquote(parts.password or ""))
            _send(session, message)
            with suppress(OSError):  # The server has accepted the message. What it says now changes nothing.
                session.quit()


def _send(session: smtplib.SMTP, message: EmailMessage) -> None:
    session.ehlo_or_helo_if_needed()
    if not message["To"].isascii() and not session.has_extn("smtputf8"):
        raise Undeliverable("the mail server takes only addresses in ASCII (no SMTPUTF8)")
    session.send_message(message)


@contextmanager
def _connected(host: str, port: int, seconds: float) -> Iterator[socket.socket]:
    """Yield a connection that is broken after `seconds`, counted from now."""
    end = monotonic() + seconds
    # TLS takes the connection away from its socket, so that the watchdog needs a duplicate to cut it.
    with _connect(host, port, end) as line, line.dup() as duplicate, Limit(duplicate, end - monotonic()):
        yield line


def _connect(host: str, port: int, end: float) -> socket.socket:
    """Connect to the first address that accepts, giving each an equal share of the time that is left."""
    addresses: list[Any] = [found[4] for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    for number, address in enumerate(addresses, 1):
        share = (end - monotonic()) / (len(addresses) - number + 1)
        if share <= 0:
            break
        try:
            return socket.create_connection(address[:2], min(STEP, share))
        except OSError:
            if number == len(addresses):
                raise
    raise TimeoutError("the time for sending is over")
