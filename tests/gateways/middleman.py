"""A proxy on a real socket between a gateway's client and the true gateway. It passes requests on, and spoils answers.

A fault is a function of one `Exchange`. It decides whether the gateway hears of the request, and what comes back.
"""

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

PACE = 0.05
"""Seconds between two bytes of an answer that drips: far less than any time-out for one read."""

ERROR = b'{"error": {"type": "api_error", "message": "An unknown error occurred"}}'


class Exchange:
    """One request that has arrived completely, and the connection that waits for its answer."""

    def __init__(self, handler: BaseHTTPRequestHandler, upstream: httpx.Client, over: threading.Event) -> None:
        self._handler, self._upstream, self._over = handler, upstream, over
        self._location: str | None = None
        self._body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))

    def forward(self) -> tuple[int, bytes]:
        """Ask the true gateway. Return the status and content of its answer."""
        # The Host header is kept: the gateway makes addresses of its pages from it.
        headers = [(name, value) for name, value in self._handler.headers.items() if name.lower() != "connection"]
        answer = self._upstream.request(
            self._handler.command, self._handler.path, headers=headers, content=self._body
        )  # fmt: skip
        self._location = answer.headers.get("Location")
        return answer.status_code, answer.content

    def pass_on(self) -> None:
        """Forward the request and return the true answer."""
        self.answer(*self.forward())

    def answer(self, status: int, content: bytes, length: int | None = None) -> None:
        """Send an answer. `length`: what its header says, if that is not the truth."""
        self._handler.send_response(status)
        self._handler.send_header("Content-Type", "application/json")
        self._handler.send_header("Content-Length", str(len(content) if length is None else length))
        if self._location:
            self._handler.send_header("Location", self._location)
        self._handler.end_headers()
        self._handler.wfile.write(content)

    def send(self, content: bytes) -> None:
        """Send bytes that need not be HTTP."""
        self._handler.wfile.write(content)
        self._handler.wfile.flush()

    def hang_up(self) -> None:
        """Close the connection without an answer."""
        self._handler.close_connection = True
        self._handler.connection.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """Break the connection, as a host does that has lost its memory of it."""
        self._handler.close_connection = True
        self._handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self._handler.connection.close()

    def drip(self, part: bytes) -> None:
        """Send the same few bytes again and again, until the client has gone or the fault is over."""
        self._handler.close_connection = True
        while not self._over.wait(PACE):
            self.send(part)


Fault = Callable[[Exchange], None]


class Middleman:
    """The running proxy. Without a fault it changes nothing."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.requests = 0
        """Requests since the last change."""
        self._fault: Fault = Exchange.pass_on
        self._step: int | None = None
        self._over = threading.Event()

    def spoil(self, fault: Fault, step: int | None = None) -> None:
        """Apply the fault to every request from now on, or only to the one with this number, counted from 0."""
        self._over.set()
        self._fault, self._step, self.requests, self._over = fault, step, 0, threading.Event()

    def behave(self) -> None:
        """Change nothing from now on. Answers that never end do end."""
        self.spoil(Exchange.pass_on)

    def spoilt(self) -> bool:
        """Return whether the fault met a request since `spoil`."""
        return self.requests > (self._step or 0)

    def handle(self, handler: BaseHTTPRequestHandler, upstream: httpx.Client) -> None:
        """Do with one request what the test wants."""
        number = self.requests
        self.requests += 1
        fault = self._fault if self._step in (None, number) else Exchange.pass_on
        fault(Exchange(handler, upstream, self._over))


@contextmanager
def middleman(upstream: str) -> Iterator[Middleman]:
    """Yield a proxy on a free loopback port in front of the origin `upstream`."""
    client = httpx.Client(base_url=upstream, trust_env=False, verify=False, timeout=30)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # Else each answer waits 40 ms for an acknowledgement.

        def do_POST(self) -> None:
            try:
                proxy.handle(self, client)
            except OSError:  # The shop's client has gone.
                self.close_connection = True

        do_GET = do_POST

        def finish(self) -> None:
            with suppress(OSError, ValueError):  # The connection was broken on purpose.
                super().finish()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy = Middleman(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.behave()
        server.shutdown()
        thread.join()
        server.socket.close()
        client.close()


def lost(exchange: Exchange) -> None:
    exchange.forward()
    exchange.hang_up()


def reset(exchange: Exchange) -> None:
    exchange.forward()
    exchange.reset()


def cut_short(exchange: Exchange) -> None:
    status, content = exchange.forward()
    exchange.answer(status, content[: len(content) // 2], length=len(content))
    exchange.hang_up()


def says(content: bytes, status: int = 200) -> Fault:
    """Return a fault that lets the gateway do its work and then answers something else."""

    def answer(exchange: Exchange) -> None:
        exchange.forward()
        exchange.answer(status, content)

    return answer


def no_http(exchange: Exchange) -> None:
    exchange.forward()
    exchange.send(b"hello\r\n\r\n")
    exchange.hang_up()


def padded(size: int) -> Fault:
    """Return a fault that makes the true answer so many bytes long. JSON allows spaces at its end."""

    def answer(exchange: Exchange) -> None:
        status, content = exchange.forward()
        exchange.answer(status, content.ljust(size))

    return answer


def lies(changes: Mapping[Any, Any]) -> Fault:
    """Return a fault that replaces values, wherever they are in the true answer."""

    def changed(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: changed(each) for name, each in value.items()}
        if isinstance(value, list):
            return [changed(each) for each in value]
        return changes.get(value, value)

    def answer(exchange: Exchange) -> None:
        status, content = exchange.forward()
        exchange.answer(status, json.dumps(changed(json.loads(content))).encode())

    return answer


def silent(exchange: Exchange) -> None:
    exchange.drip(b"")


def drips_headers(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\n")
    exchange.drip(b"X-A: b\r\n")


def drips_body(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    exchange.drip(b" ")


def drips_interim_answers(exchange: Exchange) -> None:
    exchange.drip(b"HTTP/1.1 102 Processing\r\n\r\n")


NO_ANSWER: dict[str, Fault] = {
    "unheard": Exchange.hang_up,
    "lost": lost,
    "reset": reset,
    "cut short": cut_short,
    "error 500": says(ERROR, 500),
    "error page 502": says(b"<h1>Bad gateway</h1>", 502),
    "busy 503": says(ERROR, 503),
    "too many requests": says(ERROR, 429),
    "redirect": says(b"{}", 302),
    "a page": says(b"<h1>succeeded</h1>"),
    "a list": says(b"[]"),
    "a word": says(b'"succeeded"'),
    "binary": says(bytes(range(256))),
    "deep": says(b"[" * 50_000),
    "no HTTP": no_http,
}
"""What may come back instead of an answer. In all but the first case the gateway has done what it was asked."""

NEVER_ENDING: dict[str, Fault] = {
    "silence": silent,
    "headers": drips_headers,
    "body": drips_body,
    "interim answers": drips_interim_answers,
}
