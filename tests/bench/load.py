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


def drive(port: int, requests: Sequence[bytes], connections: int, seconds: float, repeat: bool) -> Run:
    """Send requests for so many seconds and wait for the last answers. `repeat` sends the same ones again and again.

    The rate is the sum over the connections of each one's answers in its own time, up to its last answer.
    """
    gc.disable()
    waiting = deque(requests)
    clients = [_connect(port) for _ in range(connections)]
    statuses: Counter[str] = Counter()
    examples: dict[str, str] = {}
    selector = selectors.DefaultSelector()
    began, cpu = perf_counter(), process_time()
    open_until = began + seconds
    busy = 0

    def send(client: Connection) -> bool:
        if not waiting or perf_counter() >= open_until:
            return False
        request = waiting.popleft()
        if repeat:
            waiting.append(request)
        client.socket.sendall(request)
        return True

    for client in clients:
        selector.register(client.socket, selectors.EVENT_READ, client)
        busy += send(client)
    while busy:
        events = selector.select(PATIENCE)
        if not events:
            raise RuntimeError(f"no answer for {PATIENCE} s")
        for key, _ in events:
            client = key.data
            client.received += _receive(client.socket)
            if not whole(client.received):
                continue
            status = client.received[9:12].decode()
            if status not in examples:
                examples[status] = client.received.decode(errors="replace")
            statuses[status] += 1
            client.received = b""
            client.answers += 1
            client.last = perf_counter()
            busy -= not send(client)
    cost = (process_time() - cpu) / (perf_counter() - began)
    for client in clients:
        client.socket.close()
    rate = sum(client.answers / (client.last - began) for client in clients if client.answers)
    return Run(rate, dict(statuses), examples, cost)


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
