"""Places at the gateway: a limit on the requests of one process that wait for a gateway at the same time.

A gateway that does not answer holds each request for as long as its deadline. Without this limit, such requests would
soon hold every thread, and pages that need no gateway would wait as well.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from app import measures


class NoPlace(Exception):
    """Every place is taken. The gateway was not asked."""

    def __init__(self) -> None:
        super().__init__("no place at the gateway")


class GatewayPlaces:
    """The places of this process. `limit` is their number, `waiting` the number of those that are taken."""

    def __init__(self, limit: int) -> None:
        self.limit, self.waiting = limit, 0
        self._lock = Lock()

    @contextmanager
    def take(self) -> Iterator[None]:
        """Hold a place inside the block. Raises NoPlace at once if there is none: waiting would hold the thread."""
        with self._lock:
            if self.waiting >= self.limit:
                raise NoPlace
            self._add(1)
        try:
            yield
        finally:
            with self._lock:
                self._add(-1)

    def _add(self, number: int) -> None:
        self.waiting += number
        measures.gateway_places(self.waiting, self.limit)
