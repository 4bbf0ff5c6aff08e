"""End what a PostgreSQL connection is doing if it takes too long. One thread per process watches all connections.

PostgreSQL's own time-outs and TCP's don't suffice: if the server or a proxy in between hangs while its kernel still
acknowledges what we send, no answer ever comes and nothing ends the wait. So a connection whose answer is overdue is
cut here, by closing its socket in both directions. The waiting call then fails as with any broken connection.
"""

import ctypes
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any

import psycopg2

PERIOD = 0.25
"""Seconds between two checks."""

GRACE = 2.0
"""Seconds that a cancelled COMMIT still has to return before its connection is cut."""


@dataclass
class Call:
    """A use of a connection that is under way, and when to cancel it and to cut the connection."""

    driver: Any
    cut_at: float
    cancel_at: float = float("inf")


class Watchdog:
    """The calls that are under way in one process, and the thread that ends them if they are late."""

    def __init__(self) -> None:
        self.calls: dict[int, Call] = {}
        self.ending = threading.Lock()
        """Held while a call ends and while one is cut, so that only a socket that this call still uses is cut."""
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def _watch(self) -> None:
        while True:
            sleep(PERIOD)
            now = monotonic()
            for name, call in list(self.calls.items()):
                if now > min(call.cancel_at, call.cut_at):
                    with self.ending:
                        if name in self.calls:
                            _end(call, now)


_watchdogs: dict[int, Watchdog] = {}
"""By process id, because neither threads nor locks survive a fork."""
_starting = threading.Lock()


@contextmanager
def cancelled_after(seconds: float, driver: Any) -> Iterator[None]:
    """Cancel what a psycopg2 connection does if the block takes longer, and cut the connection if that does not help.

    The block ends with psycopg2.OperationalError then, or as the cancelled statement does.
    """
    now = monotonic()
    with _watched(Call(driver, cut_at=now + seconds + GRACE, cancel_at=now + seconds)):
        yield


@contextmanager
def cut_after(seconds: float, driver: Any) -> Iterator[None]:
    """Cut a connection if the block takes longer: a driver's or a socket. Whatever waits for it fails at once."""
    with _watched(Call(driver, cut_at=monotonic() + seconds)):
        yield


@contextmanager
def _watched(call: Call) -> Iterator[None]:
    watchdog = _here()
    watchdog.calls[id(call)] = call
    try:
        yield
    finally:
        with watchdog.ending:
            del watchdog.calls[id(call)]


def _here() -> Watchdog:
    """Return this process's watchdog."""
    if os.getpid() not in _watchdogs:
        with _starting:
            if os.getpid() not in _watchdogs:
                _watchdogs[os.getpid()] = Watchdog()
    return _watchdogs[os.getpid()]


def _end(call: Call, now: float) -> None:
    with suppress(Exception):  # The connection may have been closed by now.
        if now > call.cut_at:
            call.cut_at = call.cancel_at = float("inf")
            _cut(call.driver)
        else:
            call.cancel_at = float("inf")
            _cancel(call.driver)


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
