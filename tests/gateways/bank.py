"""A sandbox bank as a process of its own for tests, on real sockets, and what to ask it with."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Barrier
from typing import Any

import httpx

from app.gateways.base import Card, Payment, RefundRequest
from app.gateways.sandbox.cards import CARDS, Behaviour
from app.gateways.sandbox.client import SandboxGateway
from sandbox_bank.statement import statement
from sandbox_bank.storage import open_storage

ROOT = Path(__file__).resolve().parent.parent.parent
SERVE = """
import sys
from sandbox_bank import create_bank
from sandbox_bank.server import serve
_, books, url, slow, hold = sys.argv
serve(create_bank(books, slow_seconds=float(slow), hold_seconds=float(hold)), url)
"""
RETURN_URL = "http://127.0.0.1:9/receipts/1"


@dataclass
class RunningBank:
    """A bank that listens. `log` holds everything that it ever printed."""

    url: str
    books: str
    log: Path
    slow: float
    hold: float
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        arguments = [self.books, self.url, str(self.slow), str(self.hold)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVE, *arguments], cwd=ROOT, stderr=log, stdout=log, start_new_session=True
            )
        until(self._answers)

    def stop(self) -> int:
        """SIGTERM, as an operator would; its exit code."""
        assert self.process
        self.process.terminate()
        return self.process.wait(timeout=30)

    def kill(self) -> None:
        """SIGKILL to the server and its worker, as a power cut would."""
        assert self.process
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=30)
        # The worker is a child of the server: nothing but its silence says that it is gone too.
        until(self._refuses)

    @cached_property
    def gateway(self) -> SandboxGateway:
        """The shop's client for this bank."""
        return SandboxGateway(self.url, shop="Test shop")

    def moved(self, *keys: str) -> list[tuple[str, int]]:
        """Every movement of money under these keys, from the books: (kind, amount)."""
        engine = open_storage(self.books)
        try:
            return [(line.kind, line.amount) for line in statement(engine) if line.key in keys]
        finally:
            engine.dispose()

    def _refuses(self) -> bool:
        try:
            httpx.get(f"{self.url}/healthz", timeout=5, trust_env=False)
        except httpx.ConnectError:
            return True
        except httpx.TransportError:
            return False
        return False

    def _answers(self) -> bool:
        assert self.process
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/healthz", timeout=5, trust_env=False).status_code == 200
        return False


@contextlib.contextmanager
def running_bank(books: str, folder: Path, *, slow: float = 0.3, hold: float = 5) -> Iterator[RunningBank]:
    """A bank over these books on a free port; gone at the end, however it ends."""
    bank = RunningBank(f"http://127.0.0.1:{free_port()}", books, folder / "bank.log", slow, hold)
    try:
        bank.start()
        yield bank
    finally:
        bank.gateway.close()
        if bank.process and bank.process.poll() is None:
            bank.kill()


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until(condition: Callable[[], Any], seconds: float = 20) -> None:
    """Wait for something that must come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """All of these at the same moment, each in a thread; what each returned, or the exception that it raised."""
    start = Barrier(len(calls), timeout=60)

    def run(call: Callable[[], Any]) -> Any:
        start.wait()
        try:
            return call()
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


def payment(amount: int = 2400, currency: str = "EUR", key: str | None = None) -> Payment:
    """A payment under a new key."""
    return Payment(key or uuid.uuid4().hex, amount, currency, RETURN_URL)


def refund_request(of: Payment, amount: int, key: str | None = None) -> RefundRequest:
    """A refund under a new key."""
    return RefundRequest(key or uuid.uuid4().hex, amount, of)


def card(behaviour: Behaviour = Behaviour.APPROVES) -> Card:
    """The test card that behaves so."""
    number = next(card.number for card in CARDS if card.behaviour is behaviour)
    return Card(number, "12/30", "123")


def charge_body(asked: Payment, behaviour: Behaviour = Behaviour.APPROVES, **changes: Any) -> dict[str, Any]:
    """The JSON of a charge, for those who speak to the bank without the client."""
    given = card(behaviour)
    return {
        "key": asked.key,
        "amount": asked.amount,
        "currency": asked.currency,
        "card": {"number": given.number, "expiry": given.expiry, "cvc": given.cvc},
        "return_url": asked.return_url,
        **changes,
    }


def outcomes(answers: list[Any]) -> Counter[str]:
    """How often each outcome was answered; exceptions by their name."""
    return Counter(str(getattr(answer, "outcome", type(answer).__name__)) for answer in answers)
