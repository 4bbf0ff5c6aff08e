"""gunicorn's worker with threads, made safe against slow clients, and against requests that can't be parsed.

gunicorn's own worker gives a thread to each connection on which one byte has arrived, and that thread waits for the
rest without any limit: as many slow connections as there are threads stop the shop. This one reads in its main loop
until the request is complete. It also closes connections there, because gunicorn's main loop waits up to two seconds
for each client that keeps its own side open.
"""

import selectors
import socket
import struct
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any

import structlog
from gunicorn import http
from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER, TConn, ThreadWorker

from app.logs import Seldom
from app.server import refusals
from app.server.arriving import Arriving, State

log = structlog.get_logger()

SEND_SECONDS = 15
"""Seconds after which a client that does not read its response is cut off."""

LINGER = 2.0
"""Seconds in which what a client still sends is dropped after the response, so that it can read the response."""

MOST_LINGERING = 200

REFUSALS = {State.HEAD_TOO_LARGE: 431, State.BODY_TOO_LARGE: 413, State.LATE: 408}


class Connection(TConn):
    """A client's connection, whose bytes wait in an `Arriving`."""

    def __init__(self, worker: "Worker", client: socket.socket, address: Any, server: Any) -> None:
        super().__init__(worker.cfg, client, address, server)
        self.worker = worker
        self.arriving = Arriving(client)
        self.parser = http.get_parser(worker.cfg, client, address)
        self.parser.unreader = self.arriving
        self.data_ready = True  # A thread gets only complete requests.
        timeout = struct.pack("ll", SEND_SECONDS, 0)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)

    def close(self, graceful: bool = False) -> None:
        """Close the connection, or, if `graceful`, after the client has read the response."""
        if graceful:
            self.worker.linger(self.sock)
        else:
            super().close()


class Worker(ThreadWorker):
    """The worker that gunicorn.conf.py names."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.waiting: list[Connection] = []
        """Connections whose request has not arrived completely."""
        self.lingering: dict[socket.socket, float] = {}
        """Sockets that are closed at these times at the latest."""
        self._may_log = Seldom()

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection, and begin to read from it."""
        try:
            self._accept(listener)
        except (BlockingIOError, ConnectionAbortedError):
            pass
        except OSError as error:  # No file is left, for example. The main loop must go on.
            if self._may_log():
                log.error("connection_not_accepted", reason=str(error.strerror))

    def _accept(self, listener: socket.socket) -> None:
        client, address = listener.accept()
        self.nr_conns += 1
        self.enqueue_req(Connection(self, client, address, listener.getsockname()))

    def set_accept_enabled(self, enabled: bool) -> None:
        """Begin or cease to accept. A worker that stops first accepts what waits, then closes its listeners at once.

        gunicorn itself closes them when the last request has ended. Until then the kernel accepts connections, which it
        resets in the end, after a proxy may have sent a POST on them.
        """
        super().set_accept_enabled(enabled)
        if not self.alive:
            for listener in self.sockets:
                with suppress(OSError):
                    while True:
                        self._accept(listener)
                listener.close()

    def enqueue_req(self, conn: Connection) -> None:
        """Process the next request of a connection as soon as it has arrived."""
        conn.arriving.start()
        self._read(conn, partial(self._wait, conn))

    def _wait(self, conn: Connection) -> None:
        self.waiting.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, lambda _sock: self._read(conn))

    def _read(self, conn: Connection, if_waiting: Callable[[], None] = lambda: None) -> None:
        state = conn.arriving.read_available()
        if state is State.WAITING:
            if_waiting()
        elif state is State.COMPLETE:
            self._forget(conn)
            super().enqueue_req(conn)
        else:
            self._refuse(conn, state)

    def _refuse(self, conn: Connection, state: State) -> None:
        """End a connection whose request will not be processed."""
        self._forget(conn)
        self.nr_conns -= 1
        if state in REFUSALS and not conn.arriving.is_silent:
            log.warning("request_refused", reason=state.name.lower(), address=_address(conn.client))
            refusals.send(conn.sock, REFUSALS[state])
        conn.close(graceful=state in REFUSALS)

    def _forget(self, conn: Connection) -> None:
        if conn in self.waiting:
            self.waiting.remove(conn)
            self.poller.unregister(conn.sock)

    def murder_pending(self) -> None:
        """End connections whose time is over. The main loop calls this about once a second."""
        super().murder_pending()
        now = monotonic()
        for conn in [conn for conn in self.waiting if conn.arriving.deadline < now]:
            self._refuse(conn, State.LATE)
        for client in [client for client, end in self.lingering.items() if end < now]:
            self._end(client)

    def _cap_keepalive(self, deadline: float) -> None:
        """Wait less for connections on which nothing has arrived, because this worker stops."""
        super()._cap_keepalive(deadline)
        for conn in self.waiting:
            if conn.arriving.is_silent:
                conn.arriving.deadline = min(conn.arriving.deadline, monotonic() + STOP_KEEPALIVE_LINGER)

    def linger(self, client: socket.socket) -> None:
        """Tell the client that nothing more comes, and drop what it still sends.

        If a socket is closed while there is something to read, the client may lose the response.
        """
        try:
            client.setblocking(False)
            client.shutdown(socket.SHUT_WR)
            if len(self.lingering) >= MOST_LINGERING:
                self._end(next(iter(self.lingering)))
            self.lingering[client] = monotonic() + LINGER
            self.poller.register(client, selectors.EVENT_READ, self._drop)
        except OSError:
            self._end(client)

    def _drop(self, client: socket.socket) -> None:
        if client not in self.lingering:
            return  # Another event of the same round has closed it.
        try:
            data = client.recv(64 * 1024)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end(client)

    def _end(self, client: socket.socket) -> None:
        if self.lingering.pop(client, None) is not None:
            with suppress(KeyError, ValueError):
                self.poller.unregister(client)
        client.close()

    def handle_request(self, req: Any, conn: Connection) -> bool:
        """Process a request in a thread. A client that does not read the response is cut off without a log line."""
        req.body.reader.read = partial(_read_body, req.body.reader.read)
        try:
            return bool(super().handle_request(req, conn))
        except BlockingIOError as error:
            raise StopIteration from error

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Refuse what can't be parsed. gunicorn would log and return its bytes, which may hold card numbers."""
        structlog.contextvars.clear_contextvars()  # They belong to the previous request on this thread.
        status = refusals.status_of(exc)
        if status == 500:
            where = "".join(traceback.format_tb(exc.__traceback__))
            log.error("request_failed", reason=type(exc).__name__, address=_address(addr), where=where)
        else:
            log.warning("request_refused", reason=type(exc).__name__, address=_address(addr))
        refusals.send(client, status)


def _read_body(read: Callable[[int], bytes], size: int) -> bytes:
    """Read from a body. One that can't be parsed is an OSError for the program, without the bytes: it returns a 400."""
    try:
        return read(size)
    except http.errors.ParseException as error:
        raise OSError(type(error).__name__) from None


def _address(client: Any) -> str:
    """Return the peer's address. It is empty on a unix socket."""
    return str(client[0]) if client else ""
