"""A proxy in front of PostgreSQL that knows a COMMIT when it passes, and can break the connection around it."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from sqlalchemy import make_url

from tests.postgres import Cluster

NO_TLS = {80877103, 80877104}
"""What a client asks before its startup message: TLS, or encryption by GSSAPI."""

CLAIM, RECORD = b"INSERT INTO charge (", b"INSERT INTO ledger_entry"
"""What tells one transaction from another."""

IDLE = b"Z\x00\x00\x00\x05I"
"""The server is ready for the next question, outside any transaction: the COMMIT was carried out."""


@dataclass
class Cut:
    """Break the connection at the next COMMIT of a transaction with this statement.

    `side`: "before" (it never arrives), "after" (it is carried out, nobody hears of it), "late" (the client is cut
    off while it is held back, and it is carried out a moment later). `away`: nobody can connect afterwards.
    """

    statement: bytes
    side: str
    away: bool = False


@dataclass
class PostgresProxy:
    """Listens on loopback, passes everything on to the cluster, and makes one cut at a time."""

    cluster: Cluster
    cut: Cut | None = None
    cuts: int = 0
    away: bool = False
    listener: socket.socket = field(init=False)
    links: set[socket.socket] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, database: str) -> str:
        """The database's address by way of this proxy."""
        port = self.listener.getsockname()[1]
        url = make_url(self.cluster.url(database)).set(host="127.0.0.1", port=port, query={})
        return url.render_as_string(hide_password=False)

    def go_away(self) -> None:
        """Break every connection and refuse new ones, as a database that is gone does."""
        self.away = True
        for link in list(self.links):
            _close(link)

    def come_back(self) -> None:
        self.away = False

    def close(self) -> None:
        _close(self.listener)
        self.go_away()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                if self.away:
                    client.close()
                else:
                    threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        self.links |= {client, server}
        try:
            server.connect(str(self.cluster.folder / ".s.PGSQL.5432"))
            Link(self, client, server).run()
        except OSError:
            pass
        finally:
            for end in (client, server):
                _close(end)
                self.links.discard(end)


class Link:
    """One connection through the proxy."""

    def __init__(self, proxy: PostgresProxy, client: socket.socket, server: socket.socket) -> None:
        self.proxy, self.client, self.server = proxy, client, server
        self.deaf = threading.Event()
        """Set: what the server says goes no further."""
        self.done = threading.Event()
        self.transaction = b""

    def run(self) -> None:
        self._start()
        threading.Thread(target=self._answers, daemon=True).start()
        while message := _message(self.client):
            if message[:1] == b"Q" and not self._query(message):
                return
            if message[:1] != b"Q":
                self.server.sendall(message)

    def _start(self) -> None:
        """The first messages have no type. Encryption is declined: this proxy must read what passes."""
        while True:
            head = _exactly(self.client, 8)
            length, code = struct.unpack("!ii", head)
            if code not in NO_TLS:
                self.server.sendall(head + _exactly(self.client, length - 8))
                return
            self.client.sendall(b"N")

    def _query(self, message: bytes) -> bool:
        """Pass one statement on; False: the connection was cut at it."""
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
        if cut.side == "before":
            _close(self.server)
        elif cut.side == "after":
            self.deaf.set()
            self.server.sendall(commit)
            assert self.done.wait(30)
        if cut.away:
            self.proxy.go_away()
        _close(self.client)
        if cut.side == "late":
            self.deaf.set()
            time.sleep(0.2)
            self.server.sendall(commit)
            self.done.wait(30)

    def _answers(self) -> None:
        with contextlib.suppress(OSError):
            while chunk := self.server.recv(65536):
                if not self.deaf.is_set():
                    self.client.sendall(chunk)
                elif chunk.endswith(IDLE):
                    self.done.set()
        _close(self.client)


def _message(client: socket.socket) -> bytes:
    """One whole message: a type, a length that counts itself, the rest. Nothing at the end."""
    try:
        head = _exactly(client, 5)
        return head + _exactly(client, int(struct.unpack("!i", head[1:])[0]) - 4)
    except OSError:
        return b""


def _exactly(source: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        chunk = source.recv(count - len(found))
        if not chunk:
            raise ConnectionResetError("the other end is gone")
        found += chunk
    return found


def _close(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


@contextlib.contextmanager
def proxied(cluster: Cluster) -> Iterator[PostgresProxy]:
    """A proxy for the cluster, gone at the end."""
    proxy = PostgresProxy(cluster)
    try:
        yield proxy
    finally:
        proxy.close()


def sides() -> list[tuple[bytes, str]]:
    """Every transaction that matters, with every side of its COMMIT."""
    return [(statement, side) for statement in (CLAIM, RECORD) for side in ("before", "after", "late")]
