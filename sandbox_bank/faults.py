"""Responses that never arrive: the faults of the test cards."""

import errno
import select
import socket
import threading
from collections.abc import Iterator

from flask import Response, request


def close_connection() -> Response:
    """Return a response that closes the connection before a single byte is sent."""
    return Response(_silence(_socket(), 0))


def stay_silent(seconds: float) -> Response:
    """Return a response that sends nothing, and closes the connection after `seconds` or when the client closes it.

    It occupies a thread of the server, but no connection to the database.
    """
    return Response(_silence(_socket(), seconds))


def _socket() -> socket.socket | None:
    """Return the client's socket, or None if the server does not pass it on. gunicorn does."""
    return request.environ.get("gunicorn.socket")


def _silence(client: socket.socket | None, seconds: float) -> Iterator[bytes]:
    if client is None:
        threading.Event().wait(seconds)
    else:
        _wait_for_end(client, seconds)
    # gunicorn treats this error as a client that has gone: it closes the connection, sends nothing and logs nothing.
    raise ConnectionResetError(errno.ECONNRESET, "closed on purpose")
    yield b""


def _wait_for_end(client: socket.socket, seconds: float) -> None:
    """Wait until the client closes its side, at most `seconds`. It has sent its request, so readable means closed."""
    watch = select.poll()
    watch.register(client, select.POLLIN)
    watch.poll(seconds * 1000)
    client.shutdown(socket.SHUT_RDWR)
