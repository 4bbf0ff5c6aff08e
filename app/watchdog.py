"""End a call to PostgreSQL or a mail server if it takes too long. One thread per process watches all connections.

PostgreSQL's own time-outs and TCP's don't suffice: if the server or a proxy in between hangs while its kernel still
acknowledges what we send, no answer ever comes and nothing ends the wait. So a connection whose answer is overdue is
cut here, by closing its socket in both directions. The waiting call then fails as with any broken connection.
"""

import ctypes
import os
import socket
import threading
from contextlib import suppress
from time import monotonic
from typing import Any, Protocol
from weakref import WeakSet

import psycopg2

PERIOD = 0.25
"""Seconds between two checks."""

GRACE = 2.0
"""Seconds that a cancelled COMMIT still has to return before its connection is cut."""


NEVER = float("inf")


class Chore(Protocol):
    """Something that closes what nobody has used for long. It must not wait."""

    def close_old(self) -> None: ...


chores: WeakSet[Chore] = WeakSet()
"""What the thread also does at each check."""


class Limit:
    """Limit one use of a psycopg2 connection or a socket. Cut the connection if the use takes too long.

    The call that waits then fails. With `cancel_after`, a call of a psycopg2 connection is cancelled first, and cut
    only if that does not help. Every statement runs inside one of these, so this is a class, which is faster than a
    generator.
    """

    __slots__ = ("cancel_at", "cut_at", "driver", "watchdog")

    def __init__(self, driver: Any, cut_after: float, cancel_after: float = NEVER) -> None:
        now = monotonic()
        self.driver, self.cut_at, self.cancel_at = driver, now + cut_after, now + cancel_after

    def __enter__(self) -> None:
        self.watchdog = _here()
        self.watchdog.calls.add(self)

    def __exit__(self, *_: object) -> None:
        with self.watchdog.ending:
            self.watchdog.calls.remove(self)

    def end_if_late(self, now: float) -> None:
        """Cancel the call or cut the connection if it is time for that."""
        with suppress(Exception):  # The connection may have been closed by now.
            if now > self.cut_at:
                self.cut_at = self.cancel_at = NEVER
                _cut(self.driver)
            elif now > self.cancel_at:
                self.cancel_at = NEVER
                _cancel(self.driver)


class Watchdog:
    """The calls that are under way in one process, and the thread that ends them if they are late."""

    def __init__(self) -> None:
        self.calls: set[Limit] = set()
        self.ending = threading.Lock()
        """Held while a call ends and while one is cut, so that only a socket that this call still uses is cut."""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and wait until it has ended."""
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(PERIOD):
            now = monotonic()
            for call in list(self.calls):
                if now > min(call.cancel_at, call.cut_at):
                    with self.ending:
                        if call in self.calls:
                            call.end_if_late(now)
            for chore in list(chores):
                chore.close_old()


_watchdogs: dict[int, Watchdog] = {}
"""By process id, because neither threads nor locks survive a fork."""
_starting = threading.Lock()


def cancelled_after(seconds: float, driver: Any) -> Limit:
    """Cancel what a connection does if the block takes longer, and cut the connection if that does not help."""
    return Limit(driver, seconds + GRACE, seconds)


def stop() -> None:
    """End this process's thread before a fork. The next call starts another one."""
    if watchdog := _watchdogs.pop(os.getpid(), None):
        watchdog.stop()


def _here() -> Watchdog:
    """Return this process's watchdog."""
    watchdog = _watchdogs.get(os.getpid())
    if watchdog is None:
        with _starting:
            watchdog = _watchdogs.get(os.getpid()) or Watchdog()
            _watchdogs[os.getpid()] = watchdog
    return watchdog


def _cut(driver: Any) -> None:
    with socket.socket(fileno=os.dup(driver.fileno())) as connection:
        connection.shutdown(socket.SHUT_RDWR)


def _cancel(driver: Any) -> None:
    """Send the server a request to cancel, in a thread that ends as soon as the server has closed that connection.

    The driver's own `cancel()` keeps Python's interpreter lock while it waits for the server. A server that is silent
    would stop every thread of this process.
    """
    libpq = ctypes.CDLL(psycopg2._psycopg.__file__)  # Finds libpq's functions, too, and waits without the lock.
    libpq.PQgetCancel.restype = ctypes.c_void_p
    request = ctypes.c_void_p(libpq.PQgetCancel(ctypes.c_void_p(driver.pgconn_ptr)))

    def send() -> None:
        message = ctypes.create_string_buffer(256)
        libpq.PQcancel(request, message, len(message))
        libpq.PQfreeCancel(request)

    threading.Thread(target=send, name="cancel", daemon=True).start()
