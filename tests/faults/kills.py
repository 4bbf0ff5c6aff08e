"""Processes that kill themselves at a chosen point: a fork does the work and dies there as by `kill -9`."""

import os
import signal
from collections.abc import Callable
from typing import Any, NamedTuple

import httpx

from app.database import db
from app.gateways.http import DeadlineTransport
from app.gateways.sandbox.client import SandboxGateway
from tests.factories import API_KEY
from tests.shops import Shop

COMMITTING = ("before the commit", "after the commit")
ASKING = {
    "half sent": "http11.send_request_headers.complete",
    "sent": "http11.send_request_body.complete",
    "answered": "http11.receive_response_body.complete",
}


class Point(NamedTuple):
    """The point at which to die: a moment of the process's `nth` commit, or of its `nth` question to the bank."""

    moment: str
    nth: int

    def __str__(self) -> str:
        return f"{self.moment}, {'commit' if self.moment in COMMITTING else 'question'} {self.nth}"


def commits(*numbers: int) -> list[Point]:
    """Return the points before and after each of these commits."""
    return [Point(moment, nth) for nth in numbers for moment in COMMITTING]


def questions(*numbers: int) -> list[Point]:
    """Return the points at which each of these questions is half sent, sent, and answered."""
    return [Point(moment, nth) for nth in numbers for moment in ASKING]


def dies_at(point: Point, shop: Shop, work: Callable[[], Any]) -> bool:
    """Do the work in a forked process that dies at this point. Return False if the work ended without reaching it."""
    db.engine.dispose()  # Two processes must not share a connection.
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            _die_at(point, shop)
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, f"the work failed before: {point}"
    return os.WIFSIGNALED(status)


def die() -> None:
    """Die as by `kill -9`: no `finally` block and no exit handler runs."""
    os.kill(os.getpid(), signal.SIGKILL)


def _die_at(point: Point, shop: Shop) -> None:
    if point.moment in COMMITTING:
        _die_at_commit(point)
    else:
        bank = SandboxGateway(str(shop.gateway.page_origin), API_KEY, shop="Test shop", transport=DyingTransport(point))
        shop.gateway = bank
        shop.gateways.use(bank)


def _die_at_commit(point: Point) -> None:
    dialect, commits_seen = db.engine.dialect, 0
    commit = dialect.do_commit

    def dying_commit(connection: Any) -> None:
        nonlocal commits_seen
        commits_seen += 1
        if point == ("before the commit", commits_seen):
            die()
        commit(connection)
        if point == ("after the commit", commits_seen):
            die()

    dialect.do_commit = dying_commit  # type: ignore[method-assign]


class DyingTransport(DeadlineTransport):
    """A transport to the bank that kills the process at a point of one request."""

    def __init__(self, point: Point) -> None:
        super().__init__()
        self.point = point
        self.requests = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        if self.requests == self.point.nth:
            request.extensions["trace"] = self._trace
        return super().handle_request(request)

    def _trace(self, event: str, _info: Any) -> None:
        if event == ASKING[self.point.moment]:
            die()
