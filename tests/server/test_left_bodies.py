"""Bodies that no view reads: the connection serves the next request, or the response says that it ends."""

import pytest

from app import security
from app.server import arriving
from tests.processes.running import RunningShop
from tests.server.raw import ask

pytestmark = [pytest.mark.slow]

NEXT = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
PATHS = ("/nothing", "/static/nothing", "/checkout", "/receipts", "/healthz", "/webhooks/nobody")


def post(path: str, size: int, kind: str = "application/x-www-form-urlencoded") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\n\r\n"
    return head.encode() + b"x" * size


def test_the_next_request_is_served(running: RunningShop) -> None:
    for path in PATHS:
        for size, kind in ((3000, "text/plain"), (security.BODY_LIMIT + 1, "text/plain"), (arriving.BODY_LIMIT, "x/y")):
            both = ask(running, post(path, size, kind) + NEXT)
            assert both.count("HTTP/1.1 ") == 2 and both.endswith("alive\n"), (path, size)
            assert both.count("Connection: close") == 1, "only of the second response"


def test_a_body_that_is_not_awaited_ends_the_connection(running: RunningShop) -> None:
    refused = ask(running, post("/checkout", arriving.BODY_LIMIT + 1))
    assert refused.startswith("HTTP/1.1 413 ") and "Connection: close" in refused
    assert refused.count("HTTP/1.1 ") == 1
