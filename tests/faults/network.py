"""A proxy between the shop and its bank that delays, cuts, holds back and doubles what passes."""

import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

PASS, DELAY, DOUBLE = "pass", "delay", "double"
CUT_BEFORE, CUT_HALF, CUT_AFTER, CUT_ANSWER = "cut before", "cut half", "cut after", "cut answer"
CUT_AND_GO = "cut after, and refuse what comes next"
HOLD = "hold"

Rule = Callable[[str], str]
"""Says what to do with a request, given its first line such as "POST /v1/charges"."""


@dataclass
class BankProxy:
    """Listens on loopback. Each request is done by `rule`; what is held back waits for `release`."""

    bank: str
    rule: Rule = lambda request: PASS
    delay: float = 0.3
    done: Counter[str] = field(default_factory=Counter)
    let_go: threading.Event = field(default_factory=threading.Event)
    held: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    landed: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __post_init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def release(self) -> None:
        """Let everything that is held back go on to the bank."""
        self.let_go.set()

    def go_away(self) -> None:
        """Refuse every connection from now on."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)  # Else the thread that accepts keeps it open.
        self.listener.close()

    def close(self) -> None:
        self.release()
        self.go_away()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """One request a connection: the answer says that it closes."""
        with client, contextlib.suppress(OSError, ValueError):
            request = _closing(_http(client))
            todo = self.rule(b" ".join(request.split(b" ", 2)[:2]).decode())
            self.done[todo] += 1
            answer = self._pass_on(request, todo)
            if answer:
                client.sendall(answer)

    def _pass_on(self, request: bytes, todo: str) -> bytes:
        """What the client hears, after the bank heard what it should. Nothing: the connection is cut."""
        if todo == CUT_BEFORE:
            return b""
        if todo == CUT_HALF:
            with self._connect() as bank:
                bank.sendall(request[: len(request) - 20])
            return b""
        if todo == HOLD:
            self.held.release()
            self.let_go.wait(60)
        elif todo == DELAY:
            threading.Event().wait(self.delay)
        answers = self._ask(request, twice=todo == DOUBLE)
        if todo == HOLD:
            self.landed.release()
        if todo == CUT_AND_GO:
            self.go_away()
        if todo == CUT_ANSWER:
            return answers[: len(answers) // 2]
        return b"" if todo in (CUT_AFTER, CUT_AND_GO) else answers

    def _ask(self, request: bytes, *, twice: bool) -> bytes:
        """The bank's answer; asked twice at the same moment, the later of the two."""
        with contextlib.ExitStack() as stack:
            links = [stack.enter_context(self._connect()) for _ in range(2 if twice else 1)]
            for link in links:
                link.sendall(request)
            return [_closing(_http(link)) for link in links][-1]

    def _connect(self) -> socket.socket:
        parts = urlsplit(self.bank)
        return socket.create_connection((str(parts.hostname), int(parts.port or 80)), timeout=30)


def _http(link: socket.socket) -> bytes:
    """One whole request or answer, as far as its Content-Length goes, or to the end where it has none."""
    found = b""
    while b"\r\n\r\n" not in found:
        chunk = link.recv(65536)
        if not chunk:
            raise ConnectionResetError("cut short")
        found += chunk
    head, _, body = found.partition(b"\r\n\r\n")
    length = _length(head)
    while length is None or len(body) < length:
        chunk = link.recv(65536)
        if not chunk:
            break
        body += chunk
    return head + b"\r\n\r\n" + body


def _length(head: bytes) -> int | None:
    for line in head.lower().split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name == b"content-length":
            return int(value)
    return None if head.startswith(b"HTTP/") else 0


def _closing(message: bytes) -> bytes:
    """The same, saying that this connection is used once."""
    head, _, rest = message.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
    return b"\r\n".join([*lines, b"Connection: close"]) + b"\r\n\r\n" + rest


@contextlib.contextmanager
def disturbed(bank: str) -> Iterator[BankProxy]:
    """A proxy for the bank at this address, gone at the end."""
    proxy = BankProxy(bank)
    try:
        yield proxy
    finally:
        proxy.close()
