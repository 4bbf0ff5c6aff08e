"""A proxy between the shop and its bank that delays, cuts, holds back and duplicates requests."""

import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

FORWARD, DELAY, DUPLICATE = "forward", "delay", "duplicate"
CUT_BEFORE, CUT_HALF, CUT_AFTER, CUT_ANSWER = "cut before", "cut half", "cut after", "cut answer"
CUT_AND_REFUSE = "cut after, then refuse connections"
HOLD = "hold"

Rule = Callable[[str], str]
"""Returns what to do with a request, given its method and path such as "POST /v1/charges"."""


@dataclass
class BankProxy:
    """Listen on loopback and do with each request what `rule` returns. Requests on HOLD wait for `release`.

    `counts` counts requests by what was done with them. `arrived` is released when the bank has answered a request that
    was held back.
    """

    bank: str
    rule: Rule = lambda request: FORWARD
    delay: float = 0.3
    counts: Counter[str] = field(default_factory=Counter)
    released: threading.Event = field(default_factory=threading.Event)
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __post_init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def release(self) -> None:
        """Send all requests that are held back to the bank."""
        self.released.set()

    def refuse_connections(self) -> None:
        """Refuse every connection from now on."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)  # Otherwise the accepting thread keeps it open.
        self.listener.close()

    def close(self) -> None:
        self.release()
        self.refuse_connections()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """Serve one request. The answer closes the connection."""
        with client, contextlib.suppress(OSError, ValueError):
            request = _closing(_http(client))
            action = self.rule(b" ".join(request.split(b" ", 2)[:2]).decode())
            self.counts[action] += 1
            answer = self._forward(request, action)
            if answer:
                client.sendall(answer)

    def _forward(self, request: bytes, action: str) -> bytes:
        """Carry out the action. Return what the client receives; b"" means that its connection is cut."""
        if action == CUT_BEFORE:
            return b""
        if action == CUT_HALF:
            with self._connect() as bank:
                bank.sendall(request[: len(request) - 20])
            return b""
        if action == HOLD:
            self.released.wait(60)
        elif action == DELAY:
            threading.Event().wait(self.delay)
        answer = self._ask(request, twice=action == DUPLICATE)
        if action == HOLD:
            self.arrived.release()
        if action == CUT_AND_REFUSE:
            self.refuse_connections()
        if action == CUT_ANSWER:
            return answer[: len(answer) // 2]
        return b"" if action in (CUT_AFTER, CUT_AND_REFUSE) else answer

    def _ask(self, request: bytes, *, twice: bool) -> bytes:
        """Return the bank's answer. With `twice`, send the request on two connections at the same time."""
        with contextlib.ExitStack() as stack:
            connections = [stack.enter_context(self._connect()) for _ in range(2 if twice else 1)]
            for connection in connections:
                connection.sendall(request)
            return [_closing(_http(connection)) for connection in connections][-1]

    def _connect(self) -> socket.socket:
        parts = urlsplit(self.bank)
        return socket.create_connection((str(parts.hostname), int(parts.port or 80)), timeout=30)


def _http(connection: socket.socket) -> bytes:
    """Return one request or answer: up to its Content-Length or, if an answer has none, to the end of the stream."""
    received = b""
    while b"\r\n\r\n" not in received:
        chunk = connection.recv(65536)
        if not chunk:
            raise ConnectionResetError("the connection ended inside the head")
        received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    length = _length(head)
    while length is None or len(body) < length:
        chunk = connection.recv(65536)
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
    """Return the message with the header that closes the connection after it."""
    head, _, rest = message.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
    return b"\r\n".join([*lines, b"Connection: close"]) + b"\r\n\r\n" + rest


@contextlib.contextmanager
def bank_proxy(bank: str) -> Iterator[BankProxy]:
    """Yield a proxy for the bank at this URL, and close it when the block ends."""
    proxy = BankProxy(bank)
    try:
        yield proxy
    finally:
        proxy.close()
