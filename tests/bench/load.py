"""A load generator that costs little: prepared requests over kept-alive sockets, one thread, no HTTP library.

It runs in a process of its own (see `Load`), and is the same for every contender.
"""

import gc
import selectors
import socket
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from time import perf_counter, process_time

PATIENCE = 30.0
"""Seconds without a single answer after which a run has failed."""

END_OF_HEAD = b"\r\n\r\n"
LENGTH = b"content-length: "


@dataclass
class Connection:
    """One client: sends its next request when the last one is answered. `last` is when that was."""

    socket: socket.socket
    received: bytes = b""
    answers: int = 0
    last: float = 0.0


@dataclass(frozen=True)
class Run:
    """What a run came to: answers a second, answers by status, one example of each, and what measuring cost."""

    rate: float
    statuses: dict[str, int]
    examples: dict[str, str] = field(repr=False)
    cpu: float = 0.0
    """The load generator's own share of one core, 0 to 1."""

    @property
    def answers(self) -> int:
        return sum(self.statuses.values())


def whole(received: bytes) -> bool:
    """Whether one whole answer has arrived: its head, and as much body as the head promises."""
    head = received.find(END_OF_HEAD)
    if head < 0:
        return False
    at = received.lower().find(LENGTH, 0, head) + len(LENGTH)
    if at < len(LENGTH):
        raise RuntimeError(f"an answer without Content-Length: {received[:300]!r}")
    return len(received) >= head + len(END_OF_HEAD) + int(received[at : received.index(b"\r", at)])


class Drive:
    """So many connections, each of which sends its next request when its last one is answered."""

    def __init__(self, port: int, requests: Sequence[bytes], connections: int, repeat: bool) -> None:
        self.waiting, self.repeat = deque(requests), repeat
        self.clients = [_connect(port) for _ in range(connections)]
        self.selector = selectors.DefaultSelector()
        for client in self.clients:
            self.selector.register(client.socket, selectors.EVENT_READ, client)
        self.statuses: Counter[str] = Counter()
        self.examples: dict[str, str] = {}

    def run(self, seconds: float) -> Run:
        """The rate is the sum over the connections of each one's answers in its own time, up to its last answer."""
        began, cpu = perf_counter(), process_time()
        self.open_until = began + seconds
        busy = sum(map(self._send, self.clients))
        while busy:
            answered = [client for client in self._ready() if self._hear(client)]
            busy -= len(answered) - sum(map(self._send, answered))
        cost = (process_time() - cpu) / (perf_counter() - began)
        for client in self.clients:
            client.socket.close()
        rate = sum(client.answers / (client.last - began) for client in self.clients if client.answers)
        return Run(rate, dict(self.statuses), self.examples, cost)

    def _send(self, client: Connection) -> bool:
        """The next request, as long as there is one and it is time."""
        if not self.waiting or perf_counter() >= self.open_until:
            return False
        request = self.waiting.popleft()
        if self.repeat:
            self.waiting.append(request)
        client.socket.sendall(request)
        return True

    def _ready(self) -> list[Connection]:
        events = self.selector.select(PATIENCE)
        if not events:
            raise RuntimeError(f"no answer for {PATIENCE} s")
        return [key.data for key, _ in events]

    def _hear(self, client: Connection) -> bool:
        """Whether an answer is whole with what has just arrived; then it is counted."""
        client.received += _receive(client.socket)
        if not whole(client.received):
            return False
        status = client.received[9:12].decode()
        if status not in self.examples:
            self.examples[status] = client.received.decode(errors="replace")
        self.statuses[status] += 1
        client.received = b""
        client.answers += 1
        client.last = perf_counter()
        return True


def drive(port: int, requests: Sequence[bytes], connections: int, seconds: float, repeat: bool) -> Run:
    """Send requests for so many seconds and wait for the last answers. `repeat` sends the same ones again and again."""
    gc.disable()
    return Drive(port, requests, connections, repeat).run(seconds)


def _connect(port: int) -> Connection:
    made = socket.create_connection(("127.0.0.1", port))
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Connection(made)


def _receive(client: socket.socket) -> bytes:
    received = client.recv(1 << 18)
    if not received:
        raise RuntimeError("a connection was closed in mid-run")
    return received


class Load:
    """The load generator in its own process, so that it takes nothing from the one that prepares and prints."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))

    def run(
        self, port: int, requests: Iterable[bytes], connections: int, seconds: float, *, repeat: bool = False
    ) -> Run:
        return self._pool.submit(drive, port, list(requests), connections, seconds, repeat).result()

    def close(self) -> None:
        self._pool.shutdown()
