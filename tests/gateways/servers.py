"""Servers of any manners on real sockets, for the shop's client to meet."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from app.gateways.base import Payment
from app.gateways.sandbox.client import SandboxGateway
from tests.gateways.bank import card, refund_request

Serve = Callable[[socket.socket], None]


@contextmanager
def server(serve: Serve) -> Iterator[SandboxGateway]:
    """A server of any manners on a real socket; each connection is handed to `serve`."""
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
        gateway = SandboxGateway(f"http://127.0.0.1:{listener.getsockname()[1]}")
        try:
            yield gateway
        finally:
            gateway.close()
            listener.shutdown(socket.SHUT_RDWR)


def read_request(connection: socket.socket) -> bytes:
    """One whole request; empty when the client has gone."""
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


def always(answer: bytes) -> Serve:
    """Answers every request on a connection with the same bytes."""

    def serve(connection: socket.socket) -> None:
        while read_request(connection):
            connection.sendall(answer)

    return serve


def says(asked: Payment, code: int = 200, **changes: Any) -> Serve:
    """A right answer to the charge but for the changes."""
    fields = {"key": asked.key, "status": "succeeded", "amount": asked.amount, "currency": asked.currency}
    return always(response(json.dumps({**fields, **changes}).encode(), code))


def ask_all(gateway: SandboxGateway, asked: Payment, timeout: float = 5) -> list[Callable[[], Any]]:
    """Every question there is."""
    back = refund_request(asked, asked.amount)
    return [
        lambda: gateway.charge(asked, card(), timeout),
        lambda: gateway.lookup(asked, timeout),
        lambda: gateway.cancel(asked, timeout),
        lambda: gateway.refund(back, timeout),
        lambda: gateway.lookup_refund(back, timeout),
        lambda: list(gateway.statement()),
    ]
