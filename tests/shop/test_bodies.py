"""Slow, long, broken and unread bodies, as gunicorn's own reader meets them on a real connection."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from gunicorn.http.body import Body as GunicornBody
from gunicorn.http.body import ChunkedReader, LengthReader
from gunicorn.http.unreader import SocketUnreader

from app import bodies
from tests.processes.running import RunningShop
from tests.shops import Shop


@pytest.fixture
def engine_name() -> str:
    """Run these tests on one engine, because they are about connections."""
    return "sqlite"


@contextmanager
def body(length: int | None) -> Iterator[tuple[socket.socket, bodies.Body]]:
    """Yield the client's end of a connection, and the body that the program reads from the other end."""
    client, server = socket.socketpair()
    client.settimeout(60)
    with client, server:
        unreader = SocketUnreader(server)
        reader = LengthReader(unreader, length) if length is not None else ChunkedReader(None, unreader)
        yield client, bodies.Body(GunicornBody(reader), length, server)


def test_a_body_is_read_whole_and_in_parts() -> None:
    with body(10) as (client, given):
        client.sendall(b"0123456789GET / HTTP/1.1")
        assert (given.read(4), given.complete) == (b"0123", False)
        assert (given.read(100), given.complete) == (b"456789", True)
        assert given.read(100) == b"" == given.read()
        assert given.drain()


@pytest.mark.parametrize("length", [1000, None])
def test_a_slow_body_ends_at_the_deadline(length: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client sends a part and stays connected. Without a deadline, the read would never return."""
    monkeypatch.setattr(bodies, "BODY_SECONDS", 2.0)
    with body(length) as (client, given):
        client.sendall(b"x" * 10 if length else b"a\r\n" + b"x" * 10 + b"\r\n")
        with pytest.raises(OSError):
            given.read()
        assert client.recv(1) == b"", "the connection was cut"
        assert not given.drain()


@pytest.mark.parametrize("length", [3_000_000, None])
def test_draining_ends_after_its_seconds(length: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "DRAIN_SECONDS", 2.0)
    with body(length) as (client, given):
        client.sendall(b"x" * 10 if length else b"a\r\n" + b"x" * 10 + b"\r\n")
        assert not given.drain()


def test_a_small_body_that_nobody_read_is_drained() -> None:
    with body(5000) as (client, given):
        client.sendall(b"x" * 5000 + b"GET / HTTP/1.1")
        assert given.drain()


@pytest.mark.parametrize("length", [1000, None])
def test_a_body_that_ends_early_is_no_body(length: int | None) -> None:
    with body(length) as (client, given):
        client.sendall(b"name=Ada" if length else b"8\r\nname=Ada")
        client.shutdown(socket.SHUT_WR)
        with pytest.raises(OSError):
            given.read()
        assert not given.drain()


def test_a_malformed_chunk_is_no_body() -> None:
    with body(None) as (client, given):
        client.sendall(b"zz\r\nname=Ada\r\n0\r\n\r\n")
        with pytest.raises(OSError):
            given.read()


def test_a_form_that_is_cut_short_pays_nothing(shop: Shop) -> None:
    """Its last field may be half of what the shopper has entered."""
    client = shop.app.test_client()
    content = b"checkout_token=x&card_cvc=12"
    response = client.post("/checkout", data=content, headers={"Content-Type": "application/x-www-form-urlencoded"},
                           environ_overrides={"CONTENT_LENGTH": "40"})  # fmt: skip
    assert response.status_code == 400
    assert b"could not be understood" in response.data


@pytest.fixture
def running(shop: Shop, tmp_path: Path) -> Iterator[RunningShop]:
    running = RunningShop(shop.database_url, "http://127.0.0.1:9", tmp_path, workers=1)
    yield running.start()
    running.stop()


def exchange(running: RunningShop, head: str, send: Callable[[socket.socket], Any]) -> bytes:
    """Send a request, then a second one on the same connection. Return everything that arrives until it is closed."""
    with socket.create_connection(("127.0.0.1", running.port), 60) as line:
        line.sendall(f"{head}\r\nHost: 127.0.0.1\r\n".encode())
        send(line)
        received = b""
        while part := line.recv(65536):
            received += part
            if received.count(b"HTTP/1.1 ") == 1 and b"keep-alive" in received and b"</html>" in received:
                line.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        return received


@pytest.mark.slow
def test_a_connection_is_closed_only_if_a_body_is_left(running: RunningShop) -> None:
    """Every response of a request with a body, read by a view or not, is followed by the next request or the end."""
    form = b"Content-Type: application/x-www-form-urlencoded\r\n"
    for path in ("/nothing", "/static/nothing", "/checkout", "/receipts", "/healthz"):
        small = exchange(running, f"POST {path} HTTP/1.1", lambda line: line.sendall(
            form + b"Content-Length: 3000\r\n\r\n" + b"x" * 3000))  # fmt: skip
        assert small.count(b"HTTP/1.1 ") == 2 and b"alive\n" in small, (path, small[:300])
    huge = bodies.DRAIN_LIMIT + 1_000_000

    def send_much(line: socket.socket) -> None:
        line.sendall(form + f"Content-Length: {huge}\r\n\r\n".encode())
        line.sendall(b"x" * bodies.DRAIN_LIMIT)

    for path in ("/nothing", "/checkout"):
        large = exchange(running, f"POST {path} HTTP/1.1", send_much)
        assert large.count(b"HTTP/1.1 ") == 1, path
        assert b"Connection: close" in large, path
