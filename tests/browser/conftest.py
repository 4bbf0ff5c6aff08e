"""Chromium against a real shop: gunicorn, the sandbox bank and recovery, each a process of its own, on SQLite.

What the browser sent is counted at the server (/metrics), what was paid is read off the bank's statement.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import pytest

from tests.browser.buying import Buyer
from tests.factories import SECRET
from tests.gateways.bank import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
QUIET = (
    "--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --disable-quic"
).split()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this folder in one worker: one shop and one browser serve it."""
    for item in items:
        if "tests/browser" in str(item.path):
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.xdist_group("browser"))


class Live:
    """The shop as `make run` runs it. Its deadline is far longer than the slow card takes."""

    def __init__(self, folder: Path) -> None:
        self.url, bank = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
        self.folder = folder
        self.env = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "SECRET_KEY": SECRET,
            "DATABASE_URL": f"sqlite:///{folder}/shop.sqlite", "SANDBOX_DATABASE_URL": f"sqlite:///{folder}/bank.sqlite",
            "SANDBOX_BANK_URL": bank, "GATEWAY_DEADLINE": "20", "MAIL_FOLDER": f"{folder}/outbox",
            "PORT": self.url.rpartition(":")[2], "GUNICORN_THREADS": "16", "WEB_CONCURRENCY": "2",
        }  # fmt: skip
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        self.run("bank", *self._flask("sandbox", "serve"))
        self.start_shop()

    def start_shop(self) -> None:
        """All but the bank."""
        for command in (["db", "upgrade"], ["seed"]):
            subprocess.run(self._flask(*command), env=self.env, cwd=ROOT, check=True, capture_output=True)
        self.run("recovery", *self._flask("recover", "--watch"))
        self.run("shop", sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app")
        self._wait_until_ready()

    def run(self, name: str, *command: str) -> None:
        """Start one of the processes, again after a `stop`."""
        with (self.folder / f"{name}.log").open("a") as log:
            self.processes[name] = subprocess.Popen(command, env=self.env, cwd=ROOT, stdout=log, stderr=log)

    def stop(self, name: str) -> None:
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        process.wait(40)

    def stop_all(self) -> None:
        for name in list(self.processes):
            self.stop(name)

    def payments_sent(self) -> int:
        """How many POST /checkout reached the shop, counted there."""
        told = httpx.get(f"{self.url}/metrics").text
        return sum(map(int, re.findall(r'payonce_answers_total{endpoint="shop\.pay".*} (\d+)\.0', told)))

    def statement(self) -> list[dict[str, Any]]:
        """Every movement of money, as the bank has it."""
        said = subprocess.run(
            self._flask("sandbox", "statement", "--json"), env=self.env, cwd=ROOT, check=True, capture_output=True
        )
        movements: list[dict[str, Any]] = json.loads(said.stdout)
        return movements

    def _flask(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "flask", "--app", "wsgi", *words]

    def _wait_until_ready(self) -> None:
        give_up = monotonic() + 60
        while True:
            try:
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                assert monotonic() < give_up, (self.folder / "shop.log").read_text()
            sleep(0.1)


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """One shop for all of these tests; each test is another shopper."""
    live = Live(tmp_path_factory.mktemp("live"))
    live.start()
    yield live
    live.stop_all()


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, Any]:
    """Debian's Chromium, which speaks to nobody but us."""
    from setup.chromium import find

    return {"executable_path": str(find()), "args": QUIET}


@pytest.fixture(params=["script", "no script"])
def buyer(request: pytest.FixtureRequest, browser: Any, live: Live) -> Iterator[Buyer]:
    """A shopper with Chromium, with JavaScript and without."""
    context = browser.new_context(base_url=live.url, java_script_enabled=request.param == "script")
    context.set_default_timeout(20_000)
    yield Buyer(context, live, scripted=request.param == "script")
    context.close()
