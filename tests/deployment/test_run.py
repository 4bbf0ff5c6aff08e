"""`make run` serves, stops on a signal, and prints one line if it can't start."""

import contextlib
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

import setup.run
from app import instance
from tests.deployment.dockerfile import ROOT
from tests.factories import SECRET, SLOW, ready_to_pay
from tests.gateways.bank import at_once, free_port
from tests.page import Shopper

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("deployment")]


class Run:
    """One `make run` with its own ports and databases."""

    def __init__(self, folder: Path, **more: str) -> None:
        self.port, self.bank_port = free_port(), free_port()
        env = {
            "PORT": str(self.port),
            "SECRET_KEY": SECRET,
            "DATABASE_URL": f"sqlite:///{folder}/shop.sqlite",
            "SANDBOX_DATABASE_URL": f"sqlite:///{folder}/bank.sqlite",
            "SANDBOX_BANK_URL": f"http://127.0.0.1:{self.bank_port}",
        }
        bare = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self.shop_file = folder / "shop.sqlite"
        self.log = folder / "output"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                ["make", "run"],
                cwd=ROOT,
                env=bare | env | more,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def output(self) -> str:
        return self.log.read_text()

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def wait_until_ready(self) -> None:
        """Wait for the shop and its bank."""
        deadline = time.monotonic() + 90
        while not (self.is_ready() and self.listens(self.bank_port)):
            assert self.process.poll() is None, self.output()
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.1)

    def charges(self) -> list[str]:
        """Return the states of all charges, read from the SQLite file."""
        with contextlib.closing(sqlite3.connect(self.shop_file)) as database:
            return [status for (status,) in database.execute("SELECT status FROM charge")]

    def wait_for_charge(self, status: str) -> None:
        deadline = time.monotonic() + 30
        while self.charges() != [status]:
            assert time.monotonic() < deadline, self.charges()
            time.sleep(0.05)

    def listens(self, port: int) -> bool:
        """Return whether a process listens on the port."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path)
    yield run
    if run.process.poll() is None:
        os.killpg(run.process.pid, signal.SIGTERM)
        run.process.wait(timeout=60)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_and_ends_every_process_that_it_started(run: Run, how: signal.Signals) -> None:
    run.wait_until_ready()
    # SIGTERM is sent to make only. Ctrl-C sends SIGINT to every process of the terminal.
    (os.killpg if how == signal.SIGINT else os.kill)(run.process.pid, how)
    run.process.wait(timeout=60)
    assert not run.listens(run.port)
    assert not run.listens(run.bank_port)
    assert "Traceback" not in run.output()


def test_a_second_shop_starts_and_does_not_disturb_the_first(run: Run, tmp_path: Path) -> None:
    run.wait_until_ready()
    (tmp_path / "second").mkdir()
    second = Run(tmp_path / "second")
    second.wait_until_ready()
    os.kill(second.process.pid, signal.SIGTERM)
    second.process.wait(timeout=60)
    assert run.is_ready()


def test_a_charge_in_flight_finishes_before_the_processes_end(run: Run) -> None:
    run.wait_until_ready()
    with httpx.Client(base_url=f"http://127.0.0.1:{run.port}", timeout=60) as client, ThreadPoolExecutor() as pool:
        response = pool.submit(ready_to_pay(Shopper(client), card_number=SLOW).post)
        run.wait_for_charge("processing")
        os.kill(run.process.pid, signal.SIGTERM)
        assert response.result().status_code == 303
    run.process.wait(timeout=60)
    assert run.charges() == ["succeeded"]


@pytest.mark.parametrize("setting", ["PORT", "SANDBOX_BANK_URL"])
def test_a_taken_port_is_reported_in_one_line(tmp_path: Path, setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        value = str(port) if setting == "PORT" else f"http://127.0.0.1:{port}"
        run = Run(tmp_path, **{setting: value})
        assert run.process.wait(timeout=60) != 0
    lines = [line for line in run.output().splitlines() if not line.startswith("make:")]
    assert len(lines) == 1, lines
    assert str(port) in lines[0]
    assert setting in lines[0]


def test_an_invalid_setting_is_reported_in_one_line(tmp_path: Path) -> None:
    run = Run(tmp_path, SHOP_CURRENCY="GOLD")
    assert run.process.wait(timeout=60) != 0
    assert sum("SHOP_CURRENCY" in line for line in run.output().splitlines()) == 1
    assert "Traceback" not in run.output()


def test_the_secret_is_created_once_and_readable_by_its_owner_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instance, "FOLDER", tmp_path / "instance")
    (first,) = set(at_once(*[lambda: instance.kept("secret_key")] * 20))
    assert len(first) == 64
    assert instance.kept("secret_key") == first
    assert stat.S_IMODE((tmp_path / "instance").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "instance" / "secret_key").stat().st_mode) == 0o600
    assert os.listdir(tmp_path / "instance") == ["secret_key"]


def test_with_another_gateway_the_sandbox_bank_is_not_started() -> None:
    assert "bank" in setup.run.commands({})
    assert "bank" not in setup.run.commands({"PAYMENT_GATEWAY": "stripe"})
