"""Answers that never arrive: what the fault cards do to a connection."""

import errno
import select
import socket
import threading
from collections.abc import Iterator

from flask import Response, request


def hang_up() -> Response:
    """Close the connection without a word. Nothing has been sent when the server asks for the first bytes."""
    return Response(_silence(_socket(), 0))


def hold(seconds: float) -> Response:
    """Say nothing for so long, or until the client has gone; then hang up. Holds a thread, nothing else."""
    return Response(_silence(_socket(), seconds))


def _socket() -> socket.socket | None:
    """The client's socket, where the server shows it (gunicorn does)."""
    return request.environ.get("gunicorn.socket")


def _silence(client: socket.socket | None, seconds: float) -> Iterator[bytes]:
    if client is None:
        threading.Event().wait(seconds)
    else:
        _wait_for_end(client, seconds)
    # A server takes this for a client that has gone: it closes the connection and neither answers nor logs.
    raise ConnectionResetError(errno.ECONNRESET, "hung up on purpose")
    yield b""


def _wait_for_end(client: socket.socket, seconds: float) -> None:
    """Until the client closes its side. Readable means that here: it has sent its whole request and waits."""
    watch = select.poll()
    watch.register(client, select.POLLIN)
    watch.poll(seconds * 1000)
    client.shutdown(socket.SHUT_RDWR)
