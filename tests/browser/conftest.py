"""Chromium and a real shop: gunicorn, the sandbox bank and recovery, each in a process of its own, on SQLite.

The forms that a browser sends are counted by the shop (/metrics), and the charges are read from the bank's statement.
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

from tests.browser.buyer import Buyer
from tests.factories import API_KEY, SECRET, SHOP_ID
from tests.gateways.bank import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
CHROMIUM_OPTIONS = (
    "--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --disable-quic"
).split()
"""Chromium runs without a GPU, and makes no requests to services of its maker."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run all tests of this folder in one worker, because they share one shop and one browser."""
    for item in items:
        if "tests/browser" in str(item.path):
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.xdist_group("browser"))


class RunningShop:
    """The processes of a shop, as `make run` starts them.

    The gateway's deadline is much longer than the slow test card needs.
    """

    def __init__(self, folder: Path) -> None:
        self.url, bank = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
        self.folder = folder
        self.env = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "SECRET_KEY": SECRET,
            "DATABASE_URL": f"sqlite:///{folder}/shop.sqlite", "SANDBOX_DATABASE_URL": f"sqlite:///{folder}/bank.sqlite",
            "SANDBOX_BANK_URL": bank, "SANDBOX_API_KEY": API_KEY, "SHOP_ID": SHOP_ID,
            "GATEWAY_DEADLINE": "20", "MAIL_FOLDER": f"{folder}/outbox",
            "PORT": self.url.rpartition(":")[2], "GUNICORN_THREADS": "16", "WEB_CONCURRENCY": "2",
        }  # fmt: skip
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start the bank and the shop, and wait until the shop is ready."""
        self.run("bank", *self._flask("sandbox", "serve"))
        self.start_shop()

    def start_shop(self) -> None:
        """Prepare the database, and start recovery and the shop."""
        for command in (["db", "upgrade"], ["seed"]):
            subprocess.run(self._flask(*command), env=self.env, cwd=ROOT, check=True, capture_output=True)
        self.run("recovery", *self._flask("recover", "--watch"))
        self.run("shop", sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app")
        self._wait_until_ready()

    def run(self, name: str, *command: str) -> None:
        """Start a process under this name. Its output goes to <name>.log."""
        with (self.folder / f"{name}.log").open("a") as log:
            self.processes[name] = subprocess.Popen(command, env=self.env, cwd=ROOT, stdout=log, stderr=log)

    def stop(self, name: str) -> None:
        """Send SIGTERM and wait for the end of the process."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        process.wait(40)

    def stop_all(self) -> None:
        """Stop every process."""
        for name in list(self.processes):
            self.stop(name)

    def payment_forms(self) -> int:
        """Return how many POST /checkout the shop has received, from its own metrics."""
        metrics = httpx.get(f"{self.url}/metrics").text
        return sum(map(int, re.findall(r'payonce_http_responses_total{endpoint="checkout\.pay".*} (\d+)\.0', metrics)))

    def statement(self) -> list[dict[str, Any]]:
        """Return every entry of the bank's statement."""
        done = subprocess.run(
            self._flask("sandbox", "statement", "--json"), env=self.env, cwd=ROOT, check=True, capture_output=True
        )
        entries: list[dict[str, Any]] = json.loads(done.stdout)
        return entries

    def _flask(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "flask", "--app", "wsgi", *arguments]

    def _wait_until_ready(self) -> None:
        deadline = monotonic() + 60
        while True:
            try:
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                assert monotonic() < deadline, (self.folder / "shop.log").read_text()
            sleep(0.1)


@pytest.fixture(scope="session")
def running_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningShop]:
    """Start one shop for all tests. Each test has a browser of its own."""
    shop = RunningShop(tmp_path_factory.mktemp("shop"))
    shop.start()
    yield shop
    shop.stop_all()


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, Any]:
    """Return Playwright's launch options for the installed Chromium."""
    from setup.chromium import find

    return {"executable_path": str(find()), "args": CHROMIUM_OPTIONS}


@pytest.fixture(params=["script", "no script"])
def buyer(request: pytest.FixtureRequest, browser: Any, running_shop: RunningShop) -> Iterator[Buyer]:
    """Yield a buyer with JavaScript, and one without."""
    context = browser.new_context(base_url=running_shop.url, java_script_enabled=request.param == "script")
    context.set_default_timeout(20_000)
    yield Buyer(context, running_shop, scripted=request.param == "script")
    context.close()
