"""As much of an SMTP server as takes letters in, on loopback; it refuses while told to."""

import socketserver
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from threading import Thread
from typing import NamedTuple


class Delivered(NamedTuple):
    """One letter as it came over the wire: whom the envelope names, and what is in it."""

    to: list[str]
    letter: EmailMessage


class PostOffice(socketserver.ThreadingTCPServer):
    """Listens on a free port from its making to `shut`."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Counter)
        self.delivered: list[Delivered] = []
        self.refuses = False
        Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.server_address[1]}"

    def shut(self) -> None:
        self.shutdown()
        self.server_close()


class _Counter(socketserver.StreamRequestHandler):
    server: PostOffice

    def handle(self) -> None:
        to: list[str] = []
        self._say("220 here")
        while command := self.rfile.readline().decode().strip():
            verb = command[:4].upper()
            if verb == "RCPT":
                to.append(command.partition(":")[2])
                self._say("451 later" if self.server.refuses else "250 yes")
            elif verb == "DATA":
                self._say("354 go on")
                self.server.delivered.append(Delivered(to, self._receipt_email()))
                self._say("250 taken")
            elif verb == "QUIT":
                return self._say("221 bye")
            else:
                self._say("250 yes")
        return None

    def _receipt_email(self) -> EmailMessage:
        lines = []
        while (line := self.rfile.readline()) != b".\r\n":
            lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        letter = message_from_bytes(b"".join(lines), policy=default)
        assert isinstance(letter, EmailMessage)
        return letter

    def _say(self, words: str) -> None:
        self.wfile.write(f"{words}\r\n".encode())
