"""Requests byte by byte, as no HTTP library would send them."""

import socket

from tests.processes.running import RunningShop


def connect(shop: RunningShop, sent: bytes = b"") -> socket.socket:
    """Open a connection, send these bytes, and leave it open."""
    connection = socket.create_connection(("127.0.0.1", shop.port), timeout=60)
    connection.sendall(sent)
    return connection


def answer(connection: socket.socket) -> str:
    """Return everything that arrives until the shop closes its side."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    connection.close()
    return b"".join(parts).decode("latin-1")


def ask(shop: RunningShop, sent: bytes) -> str:
    """Send these bytes and return everything that arrives."""
    return answer(connect(shop, sent))
