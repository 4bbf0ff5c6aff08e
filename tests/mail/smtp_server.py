"""A minimal SMTP server on loopback that keeps the e-mails it receives, and misbehaves as a test tells it to."""

import socketserver
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from threading import Event, Thread
from typing import Any, NamedTuple

KEY_AND_CERTIFICATE = Path(__file__).parent / "localhost.pem"
"""Made for these tests; it protects nothing."""

ENDLESS = "endless"
"""An answer that comes line by line and never ends."""
SILENCE = "silence"
"""No answer, on a connection that stays open."""
DISCONNECT = "disconnect"


class Delivered(NamedTuple):
    """One received e-mail. `to` are the recipients of the SMTP envelope."""

    to: list[str]
    email: EmailMessage


class SmtpServer(socketserver.ThreadingTCPServer):
    """Listens on a free port from its creation until `close`.

    `answers` replaces the answer to a command ("CONNECT" and "." are commands too) by another, or by ENDLESS, SILENCE
    or DISCONNECT. It refuses e-mails while `refuses` is True. `features` are what it offers on EHLO.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, *, tls: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.delivered: list[Delivered] = []
        self.refuses = False
        self.answers: dict[str, str] = {}
        self.features: list[str] = []
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(KEY_AND_CERTIFICATE)
        self.scheme = "smtps" if tls else "smtp"
        self.closed = Event()
        Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def close(self) -> None:
        """Stop the server and close its socket."""
        self.closed.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent: clients that break the connection are part of the tests."""


@contextmanager
def smtp_server(**options: bool) -> Iterator[SmtpServer]:
    """Yield a server that is closed at the end of the block."""
    server = SmtpServer(**options)
    try:
        yield server
    finally:
        server.close()


class _Handler(socketserver.StreamRequestHandler):
    server: SmtpServer

    def handle(self) -> None:
        if self.server.scheme == "smtps":
            self._encrypt()
        to: list[str] = []
        self._reply("CONNECT", "220 ready")
        while command := self.rfile.readline().decode().strip():
            verb = command[:4].upper()
            if verb == "EHLO":
                self._reply(
                    verb, "".join(f"250-{each}\r\n" for each in ["localhost", *self.server.features]) + "250 HELP"
                )
            elif verb == "STAR":
                self._reply(verb, "220 go ahead")
                self._encrypt()
            elif verb == "AUTH":
                self._reply(verb, "235 welcome")
            elif verb == "RCPT":
                to.append(command.partition(":")[2])
                self._reply(verb, "451 try again later" if self.server.refuses else "250 ok")
            elif verb == "DATA":
                self._reply(verb, "354 go ahead")
                self.server.delivered.append(Delivered(to, self._read_email()))
                self._reply(".", "250 accepted")
            elif verb == "QUIT":
                return self._reply(verb, "221 bye")
            else:
                self._reply(verb, "250 ok")
        return None

    def _encrypt(self) -> None:
        self.connection = self.server.tls.wrap_socket(self.request, server_side=True)
        self.rfile = self.connection.makefile("rb")
        self.wfile = socketserver._SocketWriter(self.connection)  # type: ignore[attr-defined]

    def finish(self) -> None:
        super().finish()
        self.connection.close()

    def _read_email(self) -> EmailMessage:
        """Read up to the line that is a single dot, and undo the doubling of dots at the beginning of lines."""
        lines = []
        while (line := self.rfile.readline()) != b".\r\n":
            lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        email = message_from_bytes(b"".join(lines), policy=default)
        assert isinstance(email, EmailMessage)
        return email

    def _reply(self, verb: str, usual: str) -> None:
        answer = self.server.answers.get(verb, usual)
        while answer in (ENDLESS, SILENCE) and not self.server.closed.wait(0.02):
            if answer == ENDLESS:
                self.wfile.write(f"{usual[:3]}-wait\r\n".encode())  # It ends by an error when the client breaks off.
        if answer in (ENDLESS, SILENCE, DISCONNECT):
            raise ConnectionAbortedError
        self.wfile.write(f"{answer}\r\n".encode())
