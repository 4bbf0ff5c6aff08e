"""Processes that kill themselves at a named point: a fork does the work, and at the point it is gone as by kill -9."""

import os
import signal
from collections.abc import Callable
from typing import Any, NamedTuple

import httpx

from app.database import db
from app.gateways.http import DeadlineTransport
from app.gateways.sandbox.client import SandboxGateway
from tests.shops import Shop

COMMITTING = ("before the commit", "after the commit")
ASKING = {
    "half sent": "http11.send_request_headers.complete",
    "sent": "http11.send_request_body.complete",
    "answered": "http11.receive_response_body.complete",
}


class Point(NamedTuple):
    """Where to die: at which moment of the process's `nth` commit, or of its `nth` question to the bank."""

    moment: str
    nth: int

    def __str__(self) -> str:
        return f"{self.moment}, {'commit' if self.moment in COMMITTING else 'question'} {self.nth}"


def commits(*numbers: int) -> list[Point]:
    """Before and after each of these commits."""
    return [Point(moment, nth) for nth in numbers for moment in COMMITTING]


def questions(*numbers: int) -> list[Point]:
    """Each of these questions half sent, sent, and answered."""
    return [Point(moment, nth) for nth in numbers for moment in ASKING]


def dies_at(point: Point, shop: Shop, work: Callable[[], Any]) -> bool:
    """Do the work in a process of its own that dies at this point. False: it never came there and ended well."""
    db.engine.dispose()  # No open connection may be in two processes.
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            _set_trap(point, shop)
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, f"the work failed before: {point}"
    return os.WIFSIGNALED(status)


def die() -> None:
    """As by `kill -9`: nothing runs any more, no finally, no atexit."""
    os.kill(os.getpid(), signal.SIGKILL)


def _set_trap(point: Point, shop: Shop) -> None:
    if point.moment in COMMITTING:
        _trap_commit(point)
    else:
        bank = SandboxGateway(str(shop.gateway.page_origin), shop="Test shop", transport=Trapped(point))
        shop.gateway = bank
        shop.gateways.use(bank)


def _trap_commit(point: Point) -> None:
    dialect, seen = db.engine.dialect, 0
    commit = dialect.do_commit

    def trapped(connection: Any) -> None:
        nonlocal seen
        seen += 1
        if point == ("before the commit", seen):
            die()
        commit(connection)
        if point == ("after the commit", seen):
            die()

    dialect.do_commit = trapped  # type: ignore[method-assign]


class Trapped(DeadlineTransport):
    """The way to the bank on which the process dies."""

    def __init__(self, point: Point) -> None:
        super().__init__()
        self.point = point
        self.asked = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        if self.asked == self.point.nth:
            request.extensions["trace"] = self._trace
        return super().handle_request(request)

    def _trace(self, event: str, _info: Any) -> None:
        if event == ASKING[self.point.moment]:
            die()
