"""Threaded WSGI servers: on a free loopback port, or on a Unix socket in a private folder."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler, make_server

BACKLOG = 128


class QuietRequestHandler(WSGIRequestHandler):
    """Logs nothing, because the trace shows the requests. HTTP/1.0: no kept-alive connection can break while idle."""

    protocol_version = "HTTP/1.0"

    def log(self, type: str, message: str, *args: Any) -> None:
        """Do nothing."""


class Server:
    """A server on 127.0.0.1. The port is bound at once, so that `url` is known before any process forks."""

    def __init__(self, application: Callable[..., Any]) -> None:
        self._application = application
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._server: ThreadedWSGIServer | None = None

    def start(self) -> None:
        """Serve in threads of this process. Return at once."""
        server = self._create_server()
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def serve(self) -> None:
        """Serve until this process ends. Several forked processes may serve the same port."""
        self._create_server().serve_forever()

    def stop(self) -> None:
        """Stop serving and close the port."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        self._listener.close()

    def _create_server(self) -> ThreadedWSGIServer:
        server = make_server("127.0.0.1", 0, self._application, threaded=True, request_handler=QuietRequestHandler,
                             fd=self._listener.fileno())  # fmt: skip
        self._server = _without_waiting(server)
        return self._server


@contextmanager
def serve_socket(path: Path, application: Callable[..., Any]) -> Iterator[None]:
    """Serve on a Unix socket at `path`, in threads of this process, until the block ends."""
    server = _without_waiting(
        make_server(f"unix://{path}", 0, application, threaded=True, request_handler=QuietRequestHandler)
    )
    os.chmod(path, 0o600)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def _without_waiting(server: object) -> ThreadedWSGIServer:
    """Let the server stop without waiting for requests that are still open."""
    assert isinstance(server, ThreadedWSGIServer)  # `threaded=True` creates this class.
    server.daemon_threads = True
    server.block_on_close = False
    return server
