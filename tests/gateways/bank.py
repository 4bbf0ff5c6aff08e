"""Runs a sandbox bank as a process of its own, on real sockets, and makes requests for it."""

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
from tests.ending import with_parent
from tests.factories import API_KEY, SHOP_ID

WITH_KEY = {"Authorization": f"Bearer {API_KEY}"}
"""The header of a request without the client."""

ROOT = Path(__file__).resolve().parent.parent.parent
SERVE = """
import sys
from sandbox_bank import create_bank
from sandbox_bank.server import serve
_, database_url, url, slow, hold = sys.argv
class Hosts(set):
    def __contains__(self, name):
        return super().__contains__(name) or str(name).startswith(("198.18.", "198.19."))
bank = create_bank(database_url, slow_seconds=float(slow), hold_seconds=float(hold))
bank.config["HOSTS"] = Hosts(bank.config["HOSTS"])
serve(bank, url)
"""
"""A program that serves the bank. It also answers to the addresses of `tests.silence.Wire`."""

RETURN_URL = "http://127.0.0.1:9/receipts/1"


@dataclass
class RunningBank:
    """A bank process. `slow` and `hold` are in seconds. The file `log` contains everything that it has printed."""

    url: str
    database_url: str
    log: Path
    slow: float
    hold: float
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start the bank and wait until it is healthy."""
        arguments = [self.database_url, self.url, str(self.slow), str(self.hold)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVE, *arguments], cwd=ROOT, stderr=log, stdout=log, start_new_session=True,
                preexec_fn=with_parent,
            )  # fmt: skip
        until(self._is_healthy)

    def stop(self) -> int:
        """Send SIGTERM, as an operator does, and return the exit code."""
        assert self.process
        self.process.terminate()
        return self.process.wait(timeout=30)

    def kill(self) -> None:
        """Send SIGKILL to the server and its worker, which ends them like a power cut."""
        assert self.process
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=30)
        # The worker is a child of the server, so we can't wait for it. It has ended when connections are refused.
        until(self._refuses_connections)

    @cached_property
    def gateway(self) -> SandboxGateway:
        """The shop's client for this bank."""
        return SandboxGateway(self.url, API_KEY, shop="Test shop", shop_id=SHOP_ID)

    def moved(self, *keys: str) -> list[tuple[str, int]]:
        """Return (kind, amount) of every movement of money under these keys, from the bank's database."""
        engine = open_storage(self.database_url)
        try:
            return [(entry.kind, entry.amount) for entry in statement(engine) if entry.key in keys]
        finally:
            engine.dispose()

    def _refuses_connections(self) -> bool:
        try:
            httpx.get(f"{self.url}/healthz", timeout=5, trust_env=False)
        except httpx.ConnectError:
            return True
        except httpx.TransportError:
            return False
        return False

    def _is_healthy(self) -> bool:
        assert self.process
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/healthz", timeout=5, trust_env=False).status_code == 200
        return False


@contextlib.contextmanager
def running_bank(database_url: str, folder: Path, *, slow: float = 0.3, hold: float = 5) -> Iterator[RunningBank]:
    """Yield a bank with this database on a free port. Its log is in `folder`. Kill it at the end if it still runs."""
    bank = RunningBank(f"http://127.0.0.1:{free_port()}", database_url, folder / "bank.log", slow, hold)
    try:
        bank.start()
        yield bank
    finally:
        bank.gateway.close()
        if bank.process and bank.process.poll() is None:
            bank.kill()


def free_port() -> int:
    """Return a loopback port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until(condition: Callable[[], Any], seconds: float = 20) -> None:
    """Wait until the condition is true. Fail after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"the condition was not true within {seconds} seconds"
        time.sleep(0.02)


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Run all calls at the same moment, each in a thread. Return what each returned, or the exception it raised."""
    start = Barrier(len(calls), timeout=60)

    def run(call: Callable[[], Any]) -> Any:
        start.wait()
        try:
            return call()
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


def new_payment(amount: int = 2400, currency: str = "EUR", key: str | None = None) -> Payment:
    """Return a payment, under a new key if none is given."""
    return Payment(key or uuid.uuid4().hex, amount, currency, RETURN_URL)


def new_refund(payment: Payment, amount: int, key: str | None = None) -> RefundRequest:
    """Return a request to refund part of the payment, under a new key if none is given."""
    return RefundRequest(key or uuid.uuid4().hex, amount, payment)


def card(behaviour: Behaviour = Behaviour.APPROVES) -> Card:
    """Return the test card with this behaviour."""
    number = next(card.number for card in CARDS if card.behaviour is behaviour)
    return Card(number, "12/30", "123")


def charge_body(payment: Payment, behaviour: Behaviour = Behaviour.APPROVES, **changes: Any) -> dict[str, Any]:
    """Return the JSON body of a charge, for requests without the client."""
    used = card(behaviour)
    return {
        "key": payment.key,
        "amount": payment.amount,
        "currency": payment.currency,
        "card": {"number": used.number, "expiry": used.expiry, "cvc": used.cvc},
        "return_url": payment.return_url,
        **changes,
    }


def outcomes(answers: list[Any]) -> Counter[str]:
    """Return how often each outcome occurs. Exceptions count under the name of their class."""
    return Counter(str(getattr(answer, "outcome", type(answer).__name__)) for answer in answers)
