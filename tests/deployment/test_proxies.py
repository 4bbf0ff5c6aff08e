"""nginx and HAProxy as `deploy/` configures them: they buffer, they believe no client, and they repeat no POST."""

import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.deployment.proxies import PEM, Proxy
from tests.deployment.upstream import Upstream, upstreams
from tests.gateways.bank import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("deployment")]
NAMES = ("nginx", "haproxy")
Start = Callable[[Sequence[int]], Proxy]


@pytest.fixture(params=NAMES)
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts a proxy in front of these ports."""
    started: list[Proxy] = []

    def run(ports: Sequence[int]) -> Proxy:
        started.append(Proxy(request.param, tmp_path, ports))
        return started[-1].start()

    yield run
    for proxy in started:
        proxy.stop()


@pytest.mark.parametrize("name", NAMES)
def test_its_own_tool_accepts_the_configuration(name: str, tmp_path: Path) -> None:
    done = subprocess.run(Proxy(name, tmp_path, [8000, 8001]).command(check=True), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "[warn" not in done.stderr.lower()


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    """Their programs are replaced by one that is installed here."""
    for unit in (ROOT / "deploy" / "systemd").iterdir():
        text = unit.read_text()
        for line in [line for line in text.splitlines() if line.startswith("ExecStart=")]:
            text = text.replace(line, f"ExecStart={shutil.which('true')}")
        (tmp_path / unit.name).write_text(text)
    units = sorted(str(path) for path in tmp_path.iterdir())
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (0, "")
    for unit in [name for name in units if name.endswith(".service")]:
        rated = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--threshold=20", unit], capture_output=True, text=True
        )
        assert rated.returncode == 0, rated.stdout.splitlines()[-1]


CLAIMS = {
    "X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Port": "6666", "X-Forwarded-Prefix": "/evil", "X-Real-IP": "6.6.6.6", "Forwarded": "for=6.6.6.6",
}  # fmt: skip


def test_what_a_client_claims_about_itself_is_overwritten(start: Start) -> None:
    with upstreams(1) as [behind]:
        proxy = start([behind.port])
        proxy.client().get("/basket", headers=CLAIMS)
        [request] = behind.requests
    head = request.decode().lower()
    assert "x-forwarded-for: 127.0.0.1\r\n" in head
    assert "x-forwarded-proto: https\r\n" in head
    assert "\r\nhost: localhost" in head
    for word in ("6.6.6.6", "evil", "6666", "http\r\n"):
        assert word not in head, head


def test_the_shop_gets_only_complete_requests(start: Start) -> None:
    with upstreams(1) as [behind]:
        proxy = start([behind.port])
        context = ssl.create_default_context(cafile=PEM)
        with context.wrap_socket(
            socket.create_connection(("127.0.0.1", proxy.port)), server_hostname="localhost"
        ) as slow:
            slow.sendall(b"POST /checkout HTTP/1.1\r\nHost: localhost\r\nContent-Length: 7\r\n\r\na=b")
            assert proxy.client().get("/healthz").status_code == 200
            assert behind.requests == []
            slow.sendall(b"&c=d")
            assert slow.recv(100).startswith(b"HTTP/1.1 200")
        assert [request.endswith(b"a=b&c=d") for request in behind.requests] == [True]


def test_a_post_is_sent_once_although_its_host_breaks(start: Start) -> None:
    with upstreams(3, breaks=True) as behind:
        proxy = start([upstream.port for upstream in behind])
        response = proxy.client().post("/checkout", data={"a": "b"})
        assert response.status_code in {502, 503}
        assert response.text == (ROOT / "deploy" / "errors" / "unreachable.html").read_text()
        assert response.headers["Cache-Control"] == "no-store"
        assert sum(len(upstream.requests) for upstream in behind) == 1


def test_a_post_goes_to_another_host_if_one_does_not_listen(start: Start) -> None:
    with upstreams(1) as [behind], socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        proxy = start([unused.getsockname()[1], behind.port])
        for n in range(6):
            assert proxy.client().post("/checkout", data={"n": str(n)}).status_code == 200
        assert len(behind.requests) == 6


def test_a_body_that_is_too_large_is_refused_with_words_about_money(start: Start) -> None:
    with upstreams(1) as [behind]:
        response = start([behind.port]).client().post("/checkout", content=b"x" * 300_000)
        assert response.status_code == 413
        assert "This try took no money." in response.text
        assert behind.requests == []


def test_no_log_holds_what_a_request_says(start: Start, tmp_path: Path) -> None:
    with upstreams(1) as [behind]:
        proxy = start([behind.port])
        proxy.client().get("/receipts/secret-4242424242424242")
        behind.stop()
        proxy.client().get("/receipts/secret-4242424242424242")
        proxy.stop()
    written = "".join(path.read_text() for path in tmp_path.iterdir() if path.suffix == ".log" or path.name == "output")
    assert written
    assert "secret" not in written and "4242" not in written


def test_slow_clients_leave_the_shop_responsive(start: Start) -> None:
    """None of their requests reaches the shop."""
    behind: Upstream
    with upstreams(1) as [behind]:
        proxy = start([behind.port])
        context = ssl.create_default_context(cafile=PEM)
        slow = []
        for _ in range(150):
            plain = socket.create_connection(("127.0.0.1", proxy.port))
            slow.append(context.wrap_socket(plain, server_hostname="localhost"))
            slow[-1].sendall(b"POST /checkout HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nemail=")
        for _ in range(20):
            assert proxy.client().get("/basket").status_code == 200
        assert len(behind.requests) == 20
        for connection in slow:
            connection.close()
