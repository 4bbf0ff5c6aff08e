"""A proxy on a real socket between a gateway's client and the gateway. It forwards requests and can apply faults.

A fault is a function of one `Exchange`. It decides whether the request is forwarded and which response is sent.
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
"""Seconds between two parts of a response that never ends: far less than any time-out for one read."""

ERROR = b'{"error": {"type": "api_error", "message": "An unknown error occurred"}}'


class Exchange:
    """One request that has arrived completely, and the connection that waits for its response."""

    def __init__(self, handler: BaseHTTPRequestHandler, upstream: httpx.Client, ended: threading.Event) -> None:
        self._handler, self._upstream, self._ended = handler, upstream, ended
        self._location: str | None = None
        self._body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))

    def forward(self) -> tuple[int, bytes]:
        """Forward the request to the gateway. Return the status and content of its response."""
        # The Host header is kept, because the gateway builds the URLs of its pages from it.
        headers = [(name, value) for name, value in self._handler.headers.items() if name.lower() != "connection"]
        response = self._upstream.request(
            self._handler.command, self._handler.path, headers=headers, content=self._body
        )  # fmt: skip
        self._location = response.headers.get("Location")
        return response.status_code, response.content

    def pass_on(self) -> None:
        """Forward the request and send the gateway's response unchanged."""
        self.respond(*self.forward())

    def respond(self, status: int, content: bytes, length: int | None = None) -> None:
        """Send a response. `length` is the value of its Content-Length header, if it is not the true length."""
        self._handler.send_response(status)
        self._handler.send_header("Content-Type", "application/json")
        self._handler.send_header("Content-Length", str(len(content) if length is None else length))
        if self._location:
            self._handler.send_header("Location", self._location)
        self._handler.end_headers()
        self._handler.wfile.write(content)

    def send(self, content: bytes) -> None:
        """Send bytes, which do not have to be valid HTTP."""
        self._handler.wfile.write(content)
        self._handler.wfile.flush()

    def close(self) -> None:
        """Close the connection."""
        self._handler.close_connection = True
        self._handler.connection.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """Reset the connection, as a host does after a restart."""
        self._handler.close_connection = True
        self._handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self._handler.connection.close()

    def repeat(self, part: bytes) -> None:
        """Send the same few bytes again and again, until the client has gone or the fault is removed."""
        self._handler.close_connection = True
        while not self._ended.wait(PACE):
            self.send(part)


Fault = Callable[[Exchange], None]


class Proxy:
    """A running proxy. Without a fault it changes nothing."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.requests = 0
        """The number of requests since a fault was last set or removed."""
        self._fault: Fault = Exchange.pass_on
        self._step: int | None = None
        self._ended = threading.Event()

    def set_fault(self, fault: Fault, step: int | None = None) -> None:
        """Apply the fault to every request from now on, or only to the request number `step`, counted from 0."""
        self._ended.set()
        self._fault, self._step, self.requests, self._ended = fault, step, 0, threading.Event()

    def remove_fault(self) -> None:
        """Change nothing from now on. End responses that would never end."""
        self.set_fault(Exchange.pass_on)

    def fault_was_applied(self) -> bool:
        """Return whether the fault has been applied to a request since it was set."""
        return self.requests > (self._step or 0)

    def handle(self, handler: BaseHTTPRequestHandler, upstream: httpx.Client) -> None:
        """Apply the fault to one request, or pass the request on."""
        number = self.requests
        self.requests += 1
        fault = self._fault if self._step in (None, number) else Exchange.pass_on
        fault(Exchange(handler, upstream, self._ended))


@contextmanager
def running_proxy(upstream: str) -> Iterator[Proxy]:
    """Yield a proxy on a free loopback port in front of the origin `upstream`."""
    client = httpx.Client(base_url=upstream, trust_env=False, verify=False, timeout=30)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # Otherwise each response waits 40 ms for an acknowledgement.

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
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy = Proxy(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.remove_fault()
        server.shutdown()
        thread.join()
        server.socket.close()
        client.close()


def lost(exchange: Exchange) -> None:
    exchange.forward()
    exchange.close()


def reset(exchange: Exchange) -> None:
    exchange.forward()
    exchange.reset()


def cut_short(exchange: Exchange) -> None:
    status, content = exchange.forward()
    exchange.respond(status, content[: len(content) // 2], length=len(content))
    exchange.close()


def replaced(content: bytes, status: int = 200) -> Fault:
    """Return a fault that forwards the request and then sends another response."""

    def fault(exchange: Exchange) -> None:
        exchange.forward()
        exchange.respond(status, content)

    return fault


def not_http(exchange: Exchange) -> None:
    exchange.forward()
    exchange.send(b"hello\r\n\r\n")
    exchange.close()


def padded(size: int) -> Fault:
    """Return a fault that adds spaces to the gateway's response, which JSON allows, until it has `size` bytes."""

    def fault(exchange: Exchange) -> None:
        status, content = exchange.forward()
        exchange.respond(status, content.ljust(size))

    return fault


def with_changes(changes: Mapping[Any, Any]) -> Fault:
    """Return a fault that replaces values at any depth of the gateway's response. `changes` is old value → new."""

    def changed(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: changed(each) for name, each in value.items()}
        if isinstance(value, list):
            return [changed(each) for each in value]
        return changes.get(value, value)

    def fault(exchange: Exchange) -> None:
        status, content = exchange.forward()
        exchange.respond(status, json.dumps(changed(json.loads(content))).encode())

    return fault


def silent(exchange: Exchange) -> None:
    exchange.repeat(b"")


def silent_afterwards(exchange: Exchange) -> None:
    exchange.forward()
    exchange.repeat(b"")


def silent_halfway(exchange: Exchange) -> None:
    status, content = exchange.forward()
    exchange.respond(status, content[: len(content) // 2], length=len(content))
    exchange.repeat(b"")


def endless_headers(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\n")
    exchange.repeat(b"X-A: b\r\n")


def endless_body(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    exchange.repeat(b" ")


def endless_interim_responses(exchange: Exchange) -> None:
    exchange.repeat(b"HTTP/1.1 102 Processing\r\n\r\n")


NO_ANSWER: dict[str, Fault] = {
    "not forwarded": Exchange.close,
    "lost": lost,
    "reset": reset,
    "cut short": cut_short,
    "error 500": replaced(ERROR, 500),
    "error page 502": replaced(b"<h1>Bad gateway</h1>", 502),
    "busy 503": replaced(ERROR, 503),
    "too many requests": replaced(ERROR, 429),
    "redirect": replaced(b"{}", 302),
    "HTML": replaced(b"<h1>succeeded</h1>"),
    "a list": replaced(b"[]"),
    "a string": replaced(b'"succeeded"'),
    "binary": replaced(bytes(range(256))),
    "deeply nested": replaced(b"[" * 50_000),
    "not HTTP": not_http,
}
"""Faults that replace the gateway's response. With all but the first, the gateway has processed the request."""

SILENT: dict[str, Fault] = {
    "not forwarded": silent,
    "lost": silent_afterwards,
    "cut short": silent_halfway,
}
"""The faults of NO_ANSWER that close the connection, in silence: it stays open."""

NEVER_ENDING: dict[str, Fault] = {
    "headers": endless_headers,
    "body": endless_body,
    "interim responses": endless_interim_responses,
}
