"""Real threaded WSGI servers: on a loopback port of the system's choosing, or on a socket in a private folder."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler, make_server

BACKLOG = 128


class Quiet(WSGIRequestHandler):
    """Says nothing of the requests: the trace does. One request a connection, so that none dies idle."""

    protocol_version = "HTTP/1.0"

    def log(self, type: str, message: str, *args: Any) -> None:
        """Nothing."""


class Server:
    """Bound when made, so that its address is known before any process forks; serves when told."""

    def __init__(self, application: Callable[..., Any]) -> None:
        self._application = application
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._server: ThreadedWSGIServer | None = None

    def start(self) -> None:
        """Serve in threads of this process."""
        threading.Thread(target=self._make().serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def serve(self) -> None:
        """Serve in this process, for as long as it lives. Several forked processes may serve the same port."""
        self._make().serve_forever()

    def stop(self) -> None:
        """Take no more requests, and give the port back."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        self._listener.close()

    def _make(self) -> ThreadedWSGIServer:
        made = make_server("127.0.0.1", 0, self._application, threaded=True, request_handler=Quiet,
                           fd=self._listener.fileno())  # fmt: skip
        assert isinstance(made, ThreadedWSGIServer)  # What threaded=True makes.
        made.daemon_threads = True
        made.block_on_close = False
        self._server = made
        return made


@contextmanager
def serve_socket(path: Path, application: Callable[..., Any]) -> Iterator[None]:
    """Serve at a socket in the file system, in threads of this process, as long as the block lasts."""
    made = make_server(f"unix://{path}", 0, application, threaded=True, request_handler=Quiet)
    assert isinstance(made, ThreadedWSGIServer)  # What threaded=True makes.
    made.daemon_threads = True
    made.block_on_close = False
    os.chmod(path, 0o600)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        made.shutdown()
        made.server_close()
