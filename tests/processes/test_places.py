"""A bank that hangs does not take the shop down: a real worker, and a bank that takes every request in silence."""

import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from select import select

import pytest
from flask import Flask
from sqlalchemy import text

from app import create_app
from app.database import db, reading
from app.settings import Settings
from tests.bench import forms
from tests.factories import SECRET
from tests.gateways.bank import ROOT, running_bank, until
from tests.processes.running import RunningShop
from tests.silence import Line, at, line

pytestmark = pytest.mark.postgres

PAYMENTS, PLACES = 131, 72
"""More payments than the worker has threads, which are 96."""

DEADLINE = 240
"""GATEWAY_DEADLINE in seconds, far longer than this test waits for any page."""


class Sent:
    """A request on a connection of its own."""

    def __init__(self, shop: RunningShop, request: bytes) -> None:
        self.request = request
        self.socket = socket.create_connection(("127.0.0.1", shop.port), timeout=60)
        self.socket.sendall(request)

    def is_answered(self) -> bool:
        return bool(select([self.socket], [], [], 0)[0])

    def answer(self) -> tuple[int, str]:
        """Return the status, and the path of the receipt or the body."""
        response = HTTPResponse(self.socket)
        response.begin()
        body = response.read().decode()
        self.socket.close()
        return response.status, response.getheader("Location") or body


@dataclass
class Shop:
    """The running shop, the line to its bank, and an app on the same database, which makes forms."""

    running: RunningShop
    bank: Line
    app: Flask

    def send(self, count: int) -> list[Sent]:
        """Send new forms without waiting for answers."""
        return [Sent(self.running, request) for request in forms.forms(self.app, count)]

    def charges(self) -> Counter[str]:
        with self.app.app_context(), reading() as tx:
            return Counter(tx.scalars(text("SELECT status FROM charge")))

    def audit(self) -> int:
        command = [sys.executable, "-m", "flask", "--app", "wsgi", "audit"]
        return subprocess.run(command, cwd=ROOT, env=self.running.environ, check=False).returncode


@pytest.fixture
def engine_name() -> str:
    """Run on one engine, because this is about the bank."""
    return "postgresql"


@pytest.fixture
def shop(own_url: str, tmp_path: Path) -> Iterator[Shop]:
    app = create_app(Settings(secret_key=SECRET, database_url=own_url))
    with app.app_context():
        forms.stock(copies=1)
    with running_bank(f"sqlite:///{tmp_path}/bank/bank.sqlite", tmp_path) as bank, line(at(bank.url)) as to_bank:
        settings = {"GATEWAY_DEADLINE": str(DEADLINE)}
        running = RunningShop(own_url, f"http://127.0.0.1:{to_bank.port}", tmp_path, 1, settings)
        try:
            yield Shop(running.start(), to_bank, app)
        finally:
            to_bank.restore()
            running.stop()
            with app.app_context():
                db.engine.dispose()


@pytest.mark.timeout(180)
def test_pages_are_served_while_the_bank_is_silent(shop: Shop) -> None:
    status, before = shop.send(1)[0].answer()
    assert status == 303
    shop.bank.go_silent()

    sent = shop.send(PAYMENTS)
    until(lambda: sum(each.is_answered() for each in sent) == PAYMENTS - PLACES, 60)
    refused, waiting = ([each for each in sent if each.is_answered() is yes] for yes in (True, False))
    client = shop.running.shopper().client
    for path in ("/", "/healthz", "/readyz", "/receipts", before):
        assert client.get(path).status_code == 200, path
    for status, body in [each.answer() for each in (*refused, *shop.send(1))]:
        assert (status, "This try took no money. Please press Pay again in a minute." in body) == (503, True)
    assert shop.charges() == {"succeeded": 1, "processing": PLACES}
    for each in waiting[:3]:
        status, receipt = Sent(shop.running, each.request).answer()
        assert (status, client.get(receipt).status_code) == (303, 200)
        assert "Being confirmed" in client.get(receipt).text

    shop.bank.restore()
    assert {each.answer()[0] for each in waiting} == {303}
    for each in refused:
        assert Sent(shop.running, each.request).answer()[0] == 303, "the form that was refused is still valid"
    assert shop.charges() == {"succeeded": PAYMENTS + 1}
    assert shop.audit() == 0
