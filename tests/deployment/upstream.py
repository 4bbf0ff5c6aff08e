"""A server behind a proxy that writes down what it receives, and answers, or breaks the connection."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nalive\n"


@dataclass
class Upstream:
    """Answers health checks. Breaks the connection after other requests if `breaks`, and then answers none of them."""

    listener: socket.socket
    breaks: bool = False
    requests: list[bytes] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def stop(self) -> None:
        """Refuse connections from now on."""
        with suppress(OSError):  # It was stopped before.
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            request = connection.recv(65536)
            is_check = b"/readyz" in request or b"/healthz" in request
            if request and not is_check:
                self.requests.append(request)
            if is_check or (request and not self.breaks):
                connection.sendall(ANSWER)


@contextmanager
def upstreams(count: int, *, breaks: bool = False) -> Iterator[list[Upstream]]:
    """Yield servers that listen on free ports."""
    made = [Upstream(socket.create_server(("127.0.0.1", 0)), breaks) for _ in range(count)]
    for upstream in made:
        threading.Thread(target=upstream.serve, daemon=True).start()
    try:
        yield made
    finally:
        for upstream in made:
            upstream.stop()
