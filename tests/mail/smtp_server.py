"""A minimal SMTP server on loopback that keeps the e-mails it receives. It refuses them while `refuses` is True."""

import socketserver
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from threading import Thread
from typing import NamedTuple


class Delivered(NamedTuple):
    """One received e-mail. `to` are the recipients of the SMTP envelope."""

    to: list[str]
    email: EmailMessage


class SmtpServer(socketserver.ThreadingTCPServer):
    """Listens on a free port from its creation until `close`."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.delivered: list[Delivered] = []
        self.refuses = False
        Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.server_address[1]}"

    def close(self) -> None:
        """Stop the server and close its socket."""
        self.shutdown()
        self.server_close()


class _Handler(socketserver.StreamRequestHandler):
    server: SmtpServer

    def handle(self) -> None:
        to: list[str] = []
        self._reply("220 ready")
        while command := self.rfile.readline().decode().strip():
            verb = command[:4].upper()
            if verb == "RCPT":
                to.append(command.partition(":")[2])
                self._reply("451 try again later" if self.server.refuses else "250 ok")
            elif verb == "DATA":
                self._reply("354 go ahead")
                self.server.delivered.append(Delivered(to, self._read_email()))
                self._reply("250 accepted")
            elif verb == "QUIT":
                return self._reply("221 bye")
            else:
                self._reply("250 ok")
        return None

    def _read_email(self) -> EmailMessage:
        """Read up to the line that is a single dot, and undo the doubling of dots at the beginning of lines."""
        lines = []
        while (line := self.rfile.readline()) != b".\r\n":
            lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        email = message_from_bytes(b"".join(lines), policy=default)
        assert isinstance(email, EmailMessage)
        return email

    def _reply(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())
