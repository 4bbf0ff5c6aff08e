"""Where a request ends, and clients that still send after their response. The worker itself is in the other files."""

import re
import selectors
import socket
from contextlib import suppress
from types import SimpleNamespace

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.server import worker
from app.server.arriving import HEAD_END, TRAILERS, Arriving, State
from tests.processes.running import RunningShop
from tests.server.raw import connect

HEAD = b"POST /checkout HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = re.compile(rb"\r\n0+[ \t]*(?:;[^\r\n]*)?\r\n(?:[^\r\n]+\r\n)*\r\n\Z")
"""A last chunk with its trailers, as a pattern. It is simple to read, but searching it can take very long."""


@given(st.lists(st.sampled_from([b"\r\n", b"0", b"a", b"00", b" ;x=1", b"5\r\nab\r\n", b"T: 1", b"\r", b"\n"])))
@example([b"0", b"\r\n", b"\r\n"])
@example([b"0", b"\r\n", b"T: 1", b"\r\n", b"\r\n"])
def test_a_chunked_body_is_complete_after_its_last_chunk(parts: list[bytes]) -> None:
    body = b"".join(parts)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(HEAD + body)
        state = Arriving(ours).read_available()
    assert state is (State.COMPLETE if LAST.search(b"\r\n" + body) else State.WAITING)


def test_only_the_end_of_a_body_is_looked_at() -> None:
    """A last chunk whose trailers are longer than that is never found: such a request is refused when it is late."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(HEAD + b"0\r\n" + b"T: 1\r\n" * (TRAILERS // 6 + 1) + b"\r\n")
        assert Arriving(ours).read_available() is State.WAITING
        theirs.sendall(b"0" + HEAD_END)
        assert Arriving(ours)._has_last_chunk() is False


def test_an_event_of_a_socket_that_was_closed_in_the_same_round_does_nothing() -> None:
    """With very many lingering clients, the oldest is closed while its own event waits behind."""
    ours, theirs = socket.socketpair()
    with theirs, selectors.DefaultSelector() as poller:
        at_work = SimpleNamespace(lingering={}, poller=poller)
        for call in (worker.Worker.linger, worker.Worker._end, worker.Worker._drop):
            at_work._end, at_work._drop = (lambda c: worker.Worker._end(at_work, c)), None
            call(at_work, ours)
        assert at_work.lingering == {}


@pytest.mark.slow
def test_more_clients_that_go_on_sending_than_are_waited_for(running: RunningShop) -> None:
    clients = [connect(running, b"GET / 4 HTTP/1.1\r\n\r\n" + b"x" * 100) for _ in range(worker.MOST_LINGERING * 2)]
    for client in clients:
        with suppress(OSError):  # The shop may have closed it.
            client.sendall(b"x" * 1000)
    assert httpx.get(f"{running.url}/healthz", trust_env=False, timeout=30).status_code == 200
    for client in clients:
        client.close()
    assert running.stop() == 0
    assert running.log.read_text().count("Booting worker") == 1
