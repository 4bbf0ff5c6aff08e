"""The shops that visitors try by hand. They run in a process of their own, started at the first request.

A visitor gets one shop and one bank for each defence they open. The number of shops is limited, and all are deleted
when the process ends. The real shop only forwards requests to the process over a private Unix socket, so that its
own data, limits and metrics are not touched.
"""

import fcntl
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parent.parent
MOST_SHOPS = 24
"""Shops that exist at the same time. A new one replaces the one that was used least recently."""
IDLE = 900.0
"""Seconds without a request after which the process ends."""
BANK_DELAY = 1.2
"""Seconds that the bank takes, so that there is time for a second click."""
SOCKET = "by-hand.sock"
START_TIMEOUT = 30.0
"""Seconds in which the process must start and respond. It usually starts in two or three."""


class ShopsUnavailable(Exception):
    """The process did not start or did not respond in time."""


def ask(folder: Path, method: str, path: str, **request: Any) -> httpx.Response:
    """Send one request to the process, and start the process if necessary. Raises ShopsUnavailable."""
    end, started = time.monotonic() + START_TIMEOUT, False
    transport = httpx.HTTPTransport(uds=str(folder / SOCKET))
    with httpx.Client(transport=transport, timeout=START_TIMEOUT, trust_env=False) as client:
        while time.monotonic() < end:
            try:
                if (folder / SOCKET).exists():
                    return client.request(method, f"http://127.0.0.1{path}", **request)
            except httpx.ConnectError:
                pass  # The socket of a process that was killed.
            except httpx.TransportError as error:
                raise ShopsUnavailable from error
            if not started:  # If several requests start a process at the same time, one serves and the others exit.
                _start(folder)
                started = True
            time.sleep(0.1)
    raise ShopsUnavailable


def _start(folder: Path) -> None:
    env = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
    command = [sys.executable, "-m", "lab.by_hand", str(folder)]
    Popen(command, cwd=ROOT, env=env, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)


class Shop:
    """The shop of one visitor with one defence, and its bank."""

    def __init__(self, defence: int) -> None:
        # Imported here, so that the real shop, which only calls `ask`, need not load this.
        from lab.clock import Clock
        from lab.defences import DEFENCES, payonce
        from lab.defences.payment_client import PaymentClient
        from sandbox_bank import create_bank

        self.folder = Path(tempfile.mkdtemp(prefix="payonce-lab-"))
        bank = create_bank(f"sqlite:///{self.folder}/bank/bank.sqlite")
        self.bank_engine = bank.config["BOOKS"]
        create, transport, url = DEFENCES[defence - 1].create, _SlowBank(app=bank), "http://127.0.0.1:1"
        if create is None:
            self.app = payonce.create(url, self.folder, 10.0, transport)
        else:
            self.app = create(PaymentClient(url, 10.0, transport), _small_shop_engine(self.folder), Clock())

    def statement(self) -> list[tuple[str, str]]:
        """Return the key and the formatted amount of each charge, oldest first."""
        from app.money import format_money
        from sandbox_bank.statement import statement

        charges = [movement for movement in statement(self.bank_engine) if movement.kind == "charge"]
        return [(charge.key, format_money(charge.amount, charge.currency)) for charge in charges]

    def delete(self) -> None:
        """Delete the files of the shop and its bank."""
        self.bank_engine.dispose()
        shutil.rmtree(self.folder, ignore_errors=True)


class _SlowBank(httpx.WSGITransport):
    """The bank in the same process, with a delay before each charge."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/charges":
            time.sleep(BANK_DELAY)
        return super().handle_request(request)


def _small_shop_engine(folder: Path) -> Any:
    from sqlalchemy import create_engine

    from app.engines import prepare_sqlite

    engine = create_engine(f"sqlite:///{folder}/small_shop.sqlite", connect_args={"timeout": 10})
    prepare_sqlite(engine)
    return engine


class Shops:
    """WSGI application: /<visitor>/<defence>/… is a page of that shop.

    "?statement" returns the bank's statement as JSON, and DELETE deletes the shop.
    """

    def __init__(self) -> None:
        self._shops: OrderedDict[tuple[str, int], Shop] = OrderedDict()
        self._lock = threading.Lock()
        self.last_request_at = time.monotonic()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        self.last_request_at = time.monotonic()
        _, visitor, defence, rest = environ["PATH_INFO"].split("/", 3)
        if environ["REQUEST_METHOD"] == "DELETE":
            self._delete((visitor, int(defence)))
            return _json(start_response, [])
        shop = self._shop(visitor, int(defence))
        if environ["QUERY_STRING"] == "statement":
            return _json(start_response, shop.statement())
        environ |= {"SCRIPT_NAME": f"/lab/try/{defence}", "PATH_INFO": f"/{rest}"}
        return shop.app(environ, start_response)

    def _shop(self, visitor: str, defence: int) -> Shop:
        with self._lock:
            if (visitor, defence) not in self._shops:
                self._shops[visitor, defence] = Shop(defence)
            self._shops.move_to_end((visitor, defence))
            while len(self._shops) > MOST_SHOPS:
                self._shops.popitem(last=False)[1].delete()
            return self._shops[visitor, defence]

    def _delete(self, key: tuple[str, int]) -> None:
        with self._lock:
            if shop := self._shops.pop(key, None):
                shop.delete()

    def close(self) -> None:
        """Delete all shops."""
        for key in list(self._shops):
            self._delete(key)


def _json(start_response: Callable[..., Any], content: list[tuple[str, str]]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(content).encode()]


def _serve(folder: Path) -> None:
    """Serve until there was no request for IDLE seconds, or until the parent process has ended.

    Only one process per folder serves. Return at once if another one does.
    """
    from lab.serving import serve_socket

    parent = os.getppid()
    with open(folder / "by-hand.lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        with suppress(FileNotFoundError):
            os.unlink(folder / SOCKET)
        shops = Shops()
        try:
            with serve_socket(folder / SOCKET, shops):
                while os.getppid() == parent and time.monotonic() - shops.last_request_at < IDLE:
                    time.sleep(1)
        finally:
            os.unlink(folder / SOCKET)
            shops.close()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
