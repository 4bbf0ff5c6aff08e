"""A load generator that uses little CPU: prepared requests, keep-alive sockets, one thread, no HTTP library.

It runs in its own process (see `LoadProcess`) and is the same for every contender.
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
"""Seconds without any answer after which a run fails."""

END_OF_HEAD = b"\r\n\r\n"
LENGTH = b"content-length: "


class Failed(Exception):
    """A server returned an unexpected status, a charge is missing, or a ratio is below its floor."""


@dataclass
class LoadConnection:
    """One client, which sends its next request when the last one is answered. `last` is the time of the last answer."""

    socket: socket.socket
    received: bytes = b""
    answers: int = 0
    last: float = 0.0


@dataclass(frozen=True)
class Run:
    """The result of a run: answers per second, the number of answers by status, and one example of each status."""

    rate: float
    statuses: dict[str, int]
    examples: dict[str, str] = field(repr=False)
    cpu: float = 0.0
    """The share of one core that the load generator used, 0 to 1."""

    @property
    def answers(self) -> int:
        return sum(self.statuses.values())

    def expect(self, status: int) -> "Run":
        """Return this run. Raises Failed if an answer had another status."""
        if unexpected := [got for got in self.statuses if got != str(status)]:
            raise Failed(f"not only {status}: {self.statuses}; for example:\n{self.examples[unexpected[0]][:2000]}")
        return self


def is_complete(received: bytes) -> bool:
    """Return whether one answer has arrived with its head and as much body as its Content-Length says."""
    head = received.find(END_OF_HEAD)
    if head < 0:
        return False
    at = received.lower().find(LENGTH, 0, head) + len(LENGTH)
    if at < len(LENGTH):
        raise RuntimeError(f"an answer without Content-Length: {received[:300]!r}")
    return len(received) >= head + len(END_OF_HEAD) + int(received[at : received.index(b"\r", at)])


class LoadGenerator:
    """Connections, each of which sends its next request when its last one is answered."""

    def __init__(self, port: int, requests: Sequence[bytes], connections: int, repeat: bool) -> None:
        self.waiting, self.repeat = deque(requests), repeat
        self.clients = [_connect(port) for _ in range(connections)]
        self.selector = selectors.DefaultSelector()
        for client in self.clients:
            self.selector.register(client.socket, selectors.EVENT_READ, client)
        self.statuses: Counter[str] = Counter()
        self.examples: dict[str, str] = {}

    def run(self, seconds: float) -> Run:
        """Send requests for a number of seconds and wait for the last answers.

        The rate is the sum of the rates of all connections, each measured up to the connection's last answer.
        """
        start, cpu = perf_counter(), process_time()
        self.end = start + seconds
        busy = sum(map(self._send, self.clients))
        while busy:
            answered = [client for client in self._ready() if self._receive_answer(client)]
            busy -= len(answered) - sum(map(self._send, answered))
        share = (process_time() - cpu) / (perf_counter() - start)
        for client in self.clients:
            client.socket.close()
        rate = sum(client.answers / (client.last - start) for client in self.clients if client.answers)
        return Run(rate, dict(self.statuses), self.examples, share)

    def _send(self, client: LoadConnection) -> bool:
        """Send the next request. Return False if there is none or if the time is over."""
        if not self.waiting or perf_counter() >= self.end:
            return False
        request = self.waiting.popleft()
        if self.repeat:
            self.waiting.append(request)
        client.socket.sendall(request)
        return True

    def _ready(self) -> list[LoadConnection]:
        events = self.selector.select(PATIENCE)
        if not events:
            raise RuntimeError(f"no answer for {PATIENCE} s")
        return [key.data for key, _ in events]

    def _receive_answer(self, client: LoadConnection) -> bool:
        """Read what has arrived. Return whether the answer is complete now, and count it if it is."""
        client.received += _receive(client.socket)
        if not is_complete(client.received):
            return False
        status = client.received[9:12].decode()
        if status not in self.examples:
            self.examples[status] = client.received.decode(errors="replace")
        self.statuses[status] += 1
        client.received = b""
        client.answers += 1
        client.last = perf_counter()
        return True


def generate_load(port: int, requests: Sequence[bytes], connections: int, seconds: float, repeat: bool) -> Run:
    """Send requests for a number of seconds. With `repeat`, send the same ones again and again."""
    gc.disable()
    return LoadGenerator(port, requests, connections, repeat).run(seconds)


def _connect(port: int) -> LoadConnection:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return LoadConnection(connection)


def _receive(client: socket.socket) -> bytes:
    received = client.recv(1 << 18)
    if not received:
        raise RuntimeError("a server closed a connection during the run")
    return received


class LoadProcess:
    """The load generator in its own process, so that this process does not slow it down."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))

    def run(
        self, port: int, requests: Iterable[bytes], connections: int, seconds: float, *, repeat: bool = False
    ) -> Run:
        return self._pool.submit(generate_load, port, list(requests), connections, seconds, repeat).result()

    def close(self) -> None:
        self._pool.shutdown()
