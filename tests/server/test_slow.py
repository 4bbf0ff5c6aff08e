"""Connections on which a request arrives slowly, or never, hold no thread, and end after a while."""

from collections.abc import Callable

import httpx
import pytest

from app.server import arriving
from tests.gateways.bank import until
from tests.processes.running import RunningShop
from tests.server.raw import answer, ask, connect

pytestmark = [pytest.mark.slow]

HEAD = b"POST /checkout HTTP/1.1\r\nHost: localhost\r\n"
SLOW = {
    "silent": b"",
    "half a line": b"GET / HT",
    "half a head": HEAD,
    "no body": HEAD + b"Content-Length: 1000\r\n\r\n",
    "half a body": HEAD + b"Content-Length: 1000\r\n\r\nemail=",
    "half a chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
    "waits to continue": HEAD + b"Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n",
    "too long a body": HEAD + b"Content-Length: 1000000\r\n\r\n",
    "does not close": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    "unreadable": b"GET / 4 HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("sent", SLOW.values(), ids=SLOW.keys())
def test_many_slow_connections_leave_the_shop_responsive(running: RunningShop, sent: bytes) -> None:
    """There are forty times as many slow connections as threads, and all of them stay open."""
    slow = [connect(running, sent) for _ in range(160)]
    with httpx.Client(base_url=running.url, trust_env=False, timeout=arriving.SECONDS / 2) as client:
        for _ in range(20):
            assert client.get("/healthz").status_code == 200
    for connection in slow:
        connection.close()
    assert running.stop() == 0
    assert "Traceback" not in running.log.read_text()


def test_a_client_that_reads_nothing_is_cut_off(running: RunningShop) -> None:
    """It asks for much more than fits into the buffers between, and holds a thread until then."""
    request = b"GET /static/css/shop.css HTTP/1.1\r\nHost: localhost\r\n\r\n"
    slow = [connect(running, request * 5000) for _ in range(8)]
    until(lambda: httpx.get(f"{running.url}/healthz", trust_env=False, timeout=60).status_code == 200, 60)
    for connection in slow:
        connection.close()
    assert running.stop() == 0
    assert "Traceback" not in running.log.read_text()


def test_what_arrives_too_late_is_refused(running: RunningShop) -> None:
    slow = {name: connect(running, SLOW[name]) for name in ("half a head", "half a body", "half a chunk", "silent")}
    given = {name: answer(connection) for name, connection in slow.items()}
    assert given.pop("silent") == ""
    for name, text in given.items():
        assert text.startswith("HTTP/1.1 408 "), name
        assert "This try took no money." in text


PIECES = {
    "form": b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nConnection: close\r\n\r\na=bcd",
    "chunks": b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    b"2\r\na=\r\n3;x=y\r\nbcd\r\n0\r\nX-Trailer: 1\r\n\r\n",
    "two at once": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
}


@pytest.mark.parametrize("request_", PIECES.values(), ids=PIECES.keys())
def test_a_request_may_arrive_in_any_pieces(running: RunningShop, request_: bytes) -> None:
    whole = ask(running, request_)
    assert " 404 " in whole
    for cut in range(1, len(request_)):
        connection = connect(running, request_[:cut])
        connection.sendall(request_[cut:])
        assert answer(connection).count("HTTP/1.1 ") == whole.count("HTTP/1.1 "), cut
    connection = connect(running)
    for byte in request_:
        connection.sendall(bytes([byte]))
    assert " 404 " in answer(connection)


def test_a_client_that_waits_to_continue_is_told_to(running: RunningShop) -> None:
    connection = connect(running, HEAD + b"Content-Length: 3\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n")
    assert connection.recv(100).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
    connection.sendall(b"a=b")
    assert " 415 " in answer(connection)


def test_no_header_of_a_proxy_changes_the_path(make_running: Callable[..., RunningShop]) -> None:
    """Also not if the proxy is trusted, because it passes on its clients' headers."""
    shop = make_running(TRUSTED_PROXIES="127.0.0.1")
    for name in ("SCRIPT_NAME", "PATH_INFO", "REMOTE_USER", "script_name"):
        with httpx.Client(base_url=shop.url, trust_env=False, headers={name: "/elsewhere"}, timeout=60) as client:
            assert client.get("/healthz").text == "alive\n"
            page = client.get("/")
            assert page.status_code == 200
            assert "elsewhere" not in page.text
