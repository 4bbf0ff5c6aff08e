"""Silence: connections to a service stay open, and nothing arrives any more, in either direction.

`Line` is a proxy in front of any service. `Wire` is the same proxy in a network namespace of its own, so that a link
really goes down between it and us: SYNs get no answer and what we send is not acknowledged. `wire` falls back to a
`Line` if we may not create a namespace. When a silence ends, the data sent meanwhile arrives: TCP repeats it.
"""

import contextlib
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import make_url

from app import database, engines, watchdog
from tests.namespace import ip, leave_network, plug
from tests.postgres import Server

Target = str | tuple[str, int]
"""The path of a Unix socket, or a host and a port."""

BEFORE, AFTER = "before", "after"


@dataclass(frozen=True)
class Trigger:
    """Go silent when one connection has sent all of `marks`, in this order.

    `side` is "before" (the message with the last mark does not reach the service) or "after" (it does, but nothing
    comes back). If `others_too` is false, the silence is that of this connection only, as if a firewall forgot it.
    """

    marks: tuple[bytes, ...]
    side: str = BEFORE
    others_too: bool = True


class Line:
    """A proxy on loopback that forwards everything, or nothing while it is silent. It closes nothing by itself."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._trigger: Trigger | None = None
        self.silences = 0
        """How often a trigger was met."""
        self._connections: set[Connection] = set()
        self._audible = threading.Event()
        self._audible.set()
        self.listener = self._listen()
        self.host, self.port = self.listener.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, url: str) -> str:
        """Return the URL of the service with the address of this line."""
        changed = make_url(url).set(host=self.host, port=self.port, query={})
        return changed.render_as_string(hide_password=False)

    def silence_at(self, *marks: bytes, side: str = BEFORE, others_too: bool = True) -> None:
        """Go silent once, when a connection sends these marks. See `Trigger`."""
        self._trigger = Trigger(marks, side, others_too)

    def go_silent(self) -> None:
        """Let nothing pass from now on. New connections are accepted, and nobody responds on them."""
        self._audible.clear()

    def forget(self) -> None:
        """Let nothing pass on the connections that are open, as after a firewall has lost its table. New ones work."""
        for each in list(self._connections):
            each.audible.clear()

    def restore(self) -> None:
        """Let everything pass again, beginning with what was sent during the silence."""
        self._audible.set()
        for each in list(self._connections):
            each.audible.set()

    def close(self) -> None:
        """Close all connections and the listener."""
        for each in (self.listener, *(end for connection in list(self._connections) for end in connection.ends)):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self.restore()

    def connect(self) -> socket.socket:
        """Return a new connection to the service."""
        server = socket.socket(socket.AF_UNIX if isinstance(self._target, str) else socket.AF_INET)
        server.connect(self._target)
        return server

    def met(self, heard: bytes) -> Trigger | None:
        """Return the trigger if a connection that has sent `heard` meets it. It is met once."""
        trigger, found = self._trigger, 0
        for mark in trigger.marks if trigger else ():
            found = heard.find(mark, found)
            if found < 0:
                return None
        if trigger:
            self._trigger = None
            self.silences += 1
        return trigger

    def wait(self) -> None:
        """Wait until this line is not silent."""
        self._audible.wait()

    def _listen(self) -> socket.socket:
        return socket.create_server(("127.0.0.1", 0), backlog=128)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection = Connection(self, self.listener.accept()[0])
                self._connections.add(connection)
                threading.Thread(target=connection.run, daemon=True).start()


class Connection:
    """One connection through a line."""

    def __init__(self, line: Line, client: socket.socket) -> None:
        self._line = line
        self.ends = [client]
        self.audible = threading.Event()
        self.audible.set()

    def run(self) -> None:
        """Forward both directions until both ends have closed theirs."""
        self._line.wait()
        try:
            self.ends.append(self._line.connect())
            client, server = self.ends
            back = threading.Thread(target=self._forward_back, args=(server, client), daemon=True)
            back.start()
            self._forward(client, server)
            back.join()
        except OSError:  # The service refuses connections.
            pass
        finally:
            for each in self.ends:
                each.close()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        heard = b""
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                heard += data
                trigger = self._line.met(heard)
                if trigger:
                    self._go_silent(trigger)
                if not trigger or trigger.side == BEFORE:
                    self._wait()
                server.sendall(data)
        self._wait()
        _end(server)

    def _forward_back(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                self._wait()
                client.sendall(data)
        self._wait()
        _end(client)

    def _go_silent(self, trigger: Trigger) -> None:
        self.audible.clear()
        if trigger.others_too:
            self._line.go_silent()

    def _wait(self) -> None:
        self.audible.wait()
        self._line.wait()


def _end(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_WR)


class Wire(Line):
    """A proxy in a network namespace, at the other end of a link that goes down. The namespace ends with this process.

    A thread of its own is in the namespace and opens the listener there. Sockets stay in the namespace in which they
    were opened, so the rest of the proxy runs as it does for a `Line`.
    """

    def __init__(self, target: Target) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._name = ""
        try:
            thread_id = self._inside(leave_network)
            self._name = f"wire{thread_id}"
            self._here, self._there = plug(self._name, thread_id)
            self._inside(ip, "addr", "add", f"{self._there}/30", "dev", "eth0")
            self._inside(ip, "link", "set", "eth0", "up")
            super().__init__(target)
        except BaseException:
            self._unplug()
            raise

    def go_silent(self) -> None:
        """Take the link down: no SYN is answered, and no data is acknowledged."""
        super().go_silent()
        self._inside(ip, "link", "set", "eth0", "down")

    def restore(self) -> None:
        """Take the link up."""
        self._inside(ip, "link", "set", "eth0", "up")
        super().restore()

    def close(self) -> None:
        """Close everything, and remove the link and the namespace."""
        super().close()
        self._unplug()

    def _listen(self) -> socket.socket:
        return self._inside(socket.create_server, (str(self._there), 0), backlog=128)

    def _inside(self, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return self._thread.submit(call, *args, **options).result(60)

    def _unplug(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            ip("link", "del", self._name)
        self._thread.shutdown()


def wire(target: Target) -> Line:
    """Return a `Wire`, or a `Line` if we may not create a network namespace or have no `ip`."""
    try:
        return Wire(target)
    except (OSError, AttributeError, subprocess.CalledProcessError):
        return Line(target)


KINDS: dict[str, Callable[[Target], Line]] = {"line": Line, "wire": wire}


@contextlib.contextmanager
def line(target: Target, kind: str = "line") -> Iterator[Line]:
    """Yield a line to the service, and close it when the block ends."""
    found = KINDS[kind](target)
    try:
        yield found
    finally:
        found.close()


def socket_of(server: Server) -> Target:
    """Return the address of a PostgreSQL server."""
    folder = server.admin.query.get("host")
    return f"{folder}/.s.PGSQL.5432" if folder else (str(server.admin.host), int(server.admin.port or 5432))


def at(url: str) -> Target:
    """Return host and port of a URL."""
    parts = make_url(url)
    return str(parts.host), int(parts.port or 0)


def shorten_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the shop wait about a second for a silent database, instead of the times that it waits in use."""
    monkeypatch.setattr(engines, "ANSWER", 1.0)
    monkeypatch.setattr(engines, "CONNECT", 1)
    monkeypatch.setattr(database, "COMMIT_SECONDS", 0.7)
    monkeypatch.setattr(watchdog, "GRACE", 0.7)
