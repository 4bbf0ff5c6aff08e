"""Servers on real sockets that behave in any way a test needs, for the shop's client."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from app.gateways.base import Payment
from app.gateways.sandbox.client import SandboxGateway
from tests.factories import API_KEY
from tests.gateways.bank import card, new_refund

Serve = Callable[[socket.socket], None]


@contextmanager
def server(serve: Serve) -> Iterator[SandboxGateway]:
    """Run a server that passes each connection to `serve`. Yield a client for it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=handle, args=(connection,), daemon=True).start()

        def handle(connection: socket.socket) -> None:
            with connection:
                try:
                    serve(connection)
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        gateway = SandboxGateway(f"http://127.0.0.1:{listener.getsockname()[1]}", API_KEY)
        try:
            yield gateway
        finally:
            gateway.close()
            listener.shutdown(socket.SHUT_RDWR)


def read_request(connection: socket.socket) -> bytes:
    """Return one complete request, or no bytes if the client has gone."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        if not part:
            return b""
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def response(body: bytes, status: int = 200) -> bytes:
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def always(content: bytes) -> Serve:
    """Return a `serve` that sends the same bytes after every request."""

    def serve(connection: socket.socket) -> None:
        while read_request(connection):
            connection.sendall(content)

    return serve


def charge_answer(payment: Payment, http_status: int = 200, **changes: Any) -> Serve:
    """Return a `serve` that sends a valid answer for the charge, with these changes."""
    fields = {"key": payment.key, "status": "succeeded", "amount": payment.amount, "currency": payment.currency}
    return always(response(json.dumps({**fields, **changes}).encode(), http_status))


def questions(gateway: SandboxGateway, payment: Payment, timeout: float = 5) -> list[Callable[[], Any]]:
    """Return every question of the interface. The statement is the last one."""
    refund = new_refund(payment, payment.amount)
    return [
        lambda: gateway.charge(payment, card(), timeout),
        lambda: gateway.lookup(payment, timeout),
        lambda: gateway.cancel(payment, timeout),
        lambda: gateway.refund(refund, timeout),
        lambda: gateway.lookup_refund(refund, timeout),
        lambda: list(gateway.statement()),
    ]
