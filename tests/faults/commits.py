"""A proxy for PostgreSQL that recognises COMMITs and can break the connection before, during or after one."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from sqlalchemy import make_url

from tests.postgres import Cluster

ENCRYPTION_REQUESTS = {80877103, 80877104}
"""Codes with which a client asks for TLS or GSSAPI encryption before its startup message."""

CLAIM, RECORD = b"INSERT INTO charge (", b"INSERT INTO ledger_entry"
"""Statements that identify the two transactions of the protocol."""

IDLE = b"Z\x00\x00\x00\x05I"
"""The server's message that it waits for a query outside any transaction: the COMMIT was executed."""


@dataclass
class Cut:
    """Break the connection at the next COMMIT of a transaction that contains `statement`.

    `side` is "before" (the COMMIT never reaches the server), "after" (it is executed, but its answer is lost) or
    "late" (the client is disconnected first, and the COMMIT is executed a moment later). With `offline`, the proxy
    refuses new connections afterwards.
    """

    statement: bytes
    side: str
    offline: bool = False


@dataclass
class PostgresProxy:
    """Listen on loopback, forward everything to the cluster, and make the cut in `cut`, if any. `cuts` counts them."""

    cluster: Cluster
    cut: Cut | None = None
    cuts: int = 0
    offline: bool = False
    listener: socket.socket = field(init=False)
    sockets: set[socket.socket] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, database: str) -> str:
        """Return the URL of the database through this proxy."""
        port = self.listener.getsockname()[1]
        url = make_url(self.cluster.url(database)).set(host="127.0.0.1", port=port, query={})
        return url.render_as_string(hide_password=False)

    def go_offline(self) -> None:
        """Break every connection and refuse new ones."""
        self.offline = True
        for each in list(self.sockets):
            _close(each)

    def go_online(self) -> None:
        """Accept connections again."""
        self.offline = False

    def close(self) -> None:
        _close(self.listener)
        self.go_offline()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                if self.offline:
                    client.close()
                else:
                    threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        self.sockets |= {client, server}
        try:
            server.connect(str(self.cluster.folder / ".s.PGSQL.5432"))
            ProxiedConnection(self, client, server).run()
        except OSError:
            pass
        finally:
            for each in (client, server):
                _close(each)
                self.sockets.discard(each)


class ProxiedConnection:
    """One connection through the proxy."""

    def __init__(self, proxy: PostgresProxy, client: socket.socket, server: socket.socket) -> None:
        self.proxy, self.client, self.server = proxy, client, server
        self.muted = threading.Event()
        """If set, the server's answers are not forwarded to the client."""
        self.committed = threading.Event()
        self.transaction = b""

    def run(self) -> None:
        self._start()
        threading.Thread(target=self._forward_answers, daemon=True).start()
        while message := _message(self.client):
            if message[:1] == b"Q" and not self._query(message):
                return
            if message[:1] != b"Q":
                self.server.sendall(message)

    def _start(self) -> None:
        """Forward the startup message, which has no type. Decline encryption, because the proxy reads the messages."""
        while True:
            head = _exactly(self.client, 8)
            length, code = struct.unpack("!ii", head)
            if code not in ENCRYPTION_REQUESTS:
                self.server.sendall(head + _exactly(self.client, length - 8))
                return
            self.client.sendall(b"N")

    def _query(self, message: bytes) -> bool:
        """Forward one statement. Return False if the connection was cut instead."""
        sql = message[5:-1]
        self.transaction = sql if sql.startswith(b"BEGIN") else self.transaction + sql
        cut = self.proxy.cut
        if sql == b"COMMIT" and cut and cut.statement in self.transaction:
            self.proxy.cut = None
            self.proxy.cuts += 1
            self._cut(cut, message)
            return False
        self.server.sendall(message)
        return True

    def _cut(self, cut: Cut, commit: bytes) -> None:
        # The client sees the cut as soon as either socket is closed, and must not find the proxy still online then.
        self.proxy.offline = cut.offline
        if cut.side == "before":
            _close(self.server)
        elif cut.side == "after":
            self.muted.set()
            self.server.sendall(commit)
            assert self.committed.wait(30)
        if cut.offline:
            self.proxy.go_offline()
        _close(self.client)
        if cut.side == "late":
            self.muted.set()
            time.sleep(0.2)
            self.server.sendall(commit)
            self.committed.wait(30)

    def _forward_answers(self) -> None:
        with contextlib.suppress(OSError):
            while chunk := self.server.recv(65536):
                if not self.muted.is_set():
                    self.client.sendall(chunk)
                elif chunk.endswith(IDLE):
                    self.committed.set()
        _close(self.client)


def _message(client: socket.socket) -> bytes:
    """Return one message: a type byte, a length that includes itself, and the content. Return b"" at the end."""
    try:
        head = _exactly(client, 5)
        return head + _exactly(client, int(struct.unpack("!i", head[1:])[0]) - 4)
    except OSError:
        return b""


def _exactly(source: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        chunk = source.recv(count - len(received))
        if not chunk:
            raise ConnectionResetError("the connection ended inside a message")
        received += chunk
    return received


def _close(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()


@contextlib.contextmanager
def proxied(cluster: Cluster) -> Iterator[PostgresProxy]:
    """Yield a proxy for the cluster, and close it when the block ends."""
    proxy = PostgresProxy(cluster)
    try:
        yield proxy
    finally:
        proxy.close()


def sides() -> list[tuple[bytes, str]]:
    """Return each of the two transactions with each side of its COMMIT."""
    return [(statement, side) for statement in (CLAIM, RECORD) for side in ("before", "after", "late")]
