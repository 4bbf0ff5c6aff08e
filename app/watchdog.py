"""Cancel what a connection is doing if it takes too long. One thread per process watches all of them."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic, sleep
from typing import Any

PERIOD = 0.25
"""Seconds between two checks."""

_under_way: dict[int, tuple[float, Any]] = {}
_threads: dict[int, threading.Thread] = {}
_starting = threading.Lock()


@contextmanager
def cancelled_after(seconds: float, driver: Any) -> Iterator[None]:
    """Call `cancel()` of a psycopg2 connection, or of anything else that has one, if the block takes longer.

    Another thread calls it.
    """
    _ensure_thread()
    _under_way[id(driver)] = monotonic() + seconds, driver
    try:
        yield
    finally:
        _under_way.pop(id(driver), None)


def _ensure_thread() -> None:
    """Start the thread, once per process, because threads don't survive a fork."""
    if os.getpid() in _threads:
        return
    with _starting:
        if os.getpid() not in _threads:
            _under_way.clear()
            _threads[os.getpid()] = threading.Thread(target=_watch, name="watchdog", daemon=True)
            _threads[os.getpid()].start()


def _watch() -> None:
    while True:
        sleep(PERIOD)
        now = monotonic()
        late = [name for name, (end, _) in list(_under_way.items()) if now > end]
        for name in late:
            if found := _under_way.pop(name, None):
                # In a thread of its own: cancelling opens a connection, which takes long if the server is silent.
                threading.Thread(target=_cancel, args=(found[1],), daemon=True).start()


def _cancel(driver: Any) -> None:
    with suppress(Exception):  # The connection may have been closed by now.
        driver.cancel()
