"""The shops to try by hand: a process of its own, on a private socket, started when somebody asks for one.

Each visitor gets a shop and a bank for each defence they open; few are kept, and all are thrown away at the end.
The shop's own process only passes pages on, so that nothing of its data, limits or figures is touched here.
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
MOST = 24
"""Shops at once; who comes next takes the place of the one that was used longest ago."""
IDLE = 900.0
"""Seconds without a request after which the process ends."""
BANK_TAKES = 1.2
"""Seconds that the bank takes, so that there is time for a second click."""
SOCKET = "by-hand.sock"
START_UP = 30.0
"""Seconds for the process to come up on a busy machine; else two or three."""


class ByHandAway(Exception):
    """The process did not come up, or not answer, in time."""


def ask(folder: Path, method: str, path: str, **request: Any) -> httpx.Response:
    """One request to the shops; starts their process where there is none. Raises ByHandAway."""
    end, started = time.monotonic() + START_UP, False
    socket = httpx.HTTPTransport(uds=str(folder / SOCKET))
    with httpx.Client(transport=socket, timeout=START_UP, trust_env=False) as way:
        while time.monotonic() < end:
            try:
                if (folder / SOCKET).exists():
                    return way.request(method, f"http://127.0.0.1{path}", **request)
            except httpx.ConnectError:
                pass  # A process that was killed leaves its socket behind.
            except httpx.TransportError as error:
                raise ByHandAway from error
            if not started:  # Of several processes one serves, the others end at once.
                _start(folder)
                started = True
            time.sleep(0.1)
    raise ByHandAway


def _start(folder: Path) -> None:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
    command = [sys.executable, "-m", "lab.by_hand", str(folder)]
    Popen(command, cwd=ROOT, env=kept, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)


class Shop:
    """One defence's shop of one visitor, with a bank of its own."""

    def __init__(self, defence: int) -> None:
        from lab.clock import Clock
        from lab.defences import DEFENCES, payonce
        from lab.defences.till import Till
        from sandbox_bank import create_bank

        self.folder = Path(tempfile.mkdtemp(prefix="payonce-lab-"))
        bank = create_bank(f"sqlite:///{self.folder}/bank/bank.sqlite")
        self.books = bank.config["BOOKS"]
        create, way, url = DEFENCES[defence - 1].create, _SlowBank(app=bank), "http://127.0.0.1:1"
        if create is None:
            self.app = payonce.create(url, self.folder, 10.0, way)
        else:
            self.app = create(Till(url, 10.0, way), _stall_books(self.folder), Clock())

    def statement(self) -> list[tuple[str, str]]:
        """The keys under which money was taken and how much, oldest first."""
        from app.money import format_money
        from sandbox_bank.statement import statement

        taken = [movement for movement in statement(self.books) if movement.kind == "charge"]
        return [(movement.key, format_money(movement.amount, movement.currency)) for movement in taken]

    def throw_away(self) -> None:
        """The shop, its bank and their files."""
        self.books.dispose()
        shutil.rmtree(self.folder, ignore_errors=True)


class _SlowBank(httpx.WSGITransport):
    """The bank in the same process, with some time on the way."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/charges":
            time.sleep(BANK_TAKES)
        return super().handle_request(request)


def _stall_books(folder: Path) -> Any:
    from sqlalchemy import create_engine

    from app.engines import prepare_sqlite

    books = create_engine(f"sqlite:///{folder}/stall.sqlite", connect_args={"timeout": 10})
    prepare_sqlite(books)
    return books


class Shops:
    """WSGI: /<visitor>/<defence>/… is that shop; ?statement and a DELETE are the lab's own questions about it."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, int], Shop] = OrderedDict()
        self._lock = threading.Lock()
        self.last = time.monotonic()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        self.last = time.monotonic()
        _, visitor, defence, rest = environ["PATH_INFO"].split("/", 3)
        if environ["REQUEST_METHOD"] == "DELETE":
            self._forget((visitor, int(defence)))
            return _json(start_response, [])
        shop = self._shop(visitor, int(defence))
        if environ["QUERY_STRING"] == "statement":
            return _json(start_response, shop.statement())
        environ |= {"SCRIPT_NAME": f"/lab/try/{defence}", "PATH_INFO": f"/{rest}"}
        return shop.app(environ, start_response)

    def _shop(self, visitor: str, defence: int) -> Shop:
        with self._lock:
            if (visitor, defence) not in self._kept:
                self._kept[visitor, defence] = Shop(defence)
            self._kept.move_to_end((visitor, defence))
            while len(self._kept) > MOST:
                self._kept.popitem(last=False)[1].throw_away()
            return self._kept[visitor, defence]

    def _forget(self, key: tuple[str, int]) -> None:
        with self._lock:
            if shop := self._kept.pop(key, None):
                shop.throw_away()

    def close(self) -> None:
        """All of them."""
        for key in list(self._kept):
            self._forget(key)


def _json(start_response: Callable[..., Any], answer: list[tuple[str, str]]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]


def _serve(folder: Path) -> None:
    """Until nobody asks any more, or whoever started us has ended. One process at a time."""
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
                while os.getppid() == parent and time.monotonic() - shops.last < IDLE:
                    time.sleep(1)
        finally:
            os.unlink(folder / SOCKET)
            shops.close()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
