"""`make run` as people meet it: it serves, stops when told to, and says in one line why it can't."""

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
from tests.deployment.dockerfile import ROOT
from tests.deployment.test_image import free_port
from tests.factories import SLOW, ready_to_pay
from tests.page import Shopper

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("deployment")]


class Run:
    """One `make run` with ports and databases of its own."""

    def __init__(self, folder: Path, **more: str) -> None:
        self.port, self.bank = free_port(), free_port()
        env = {
            "PORT": str(self.port),
            "SECRET_KEY": "k" * 32,
            "DATABASE_URL": f"sqlite:///{folder}/shop.sqlite",
            "SANDBOX_DATABASE_URL": f"sqlite:///{folder}/bank.sqlite",
            "SANDBOX_BANK_URL": f"http://127.0.0.1:{self.bank}",
        }
        bare = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self.shop_file = folder / "shop.sqlite"
        self.output = folder / "output"
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                ["make", "run"],
                cwd=ROOT,
                env=bare | env | more,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def said(self) -> str:
        return self.output.read_text()

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def wait_until_it_answers(self) -> None:
        """The shop and its bank both."""
        deadline = time.monotonic() + 90
        while not (self.answers() and self.holds(self.bank)):
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.1)

    def charges(self) -> list[str]:
        """The states of all charges, from the file itself."""
        with contextlib.closing(sqlite3.connect(self.shop_file)) as books:
            return [status for (status,) in books.execute("SELECT status FROM charge")]

    def wait_for_charge(self, status: str) -> None:
        deadline = time.monotonic() + 30
        while self.charges() != [status]:
            assert time.monotonic() < deadline, self.charges()
            time.sleep(0.05)

    def holds(self, port: int) -> bool:
        """Whether somebody listens there."""
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
def test_it_serves_and_ends_everything_that_it_started(run: Run, how: signal.Signals) -> None:
    run.wait_until_it_answers()
    # SIGTERM goes to make alone, Ctrl-C to everything at the terminal.
    (os.killpg if how == signal.SIGINT else os.kill)(run.process.pid, how)
    run.process.wait(timeout=60)
    assert not run.holds(run.port)
    assert not run.holds(run.bank)
    assert "Traceback" not in run.said()


def test_a_second_start_finds_everything_there_and_the_first_one_undisturbed(run: Run, tmp_path: Path) -> None:
    run.wait_until_it_answers()
    (tmp_path / "second").mkdir()
    second = Run(tmp_path / "second")
    second.wait_until_it_answers()
    os.kill(second.process.pid, signal.SIGTERM)
    second.process.wait(timeout=60)
    assert run.answers()


def test_a_charge_in_flight_finishes_before_everything_ends(run: Run) -> None:
    run.wait_until_it_answers()
    with httpx.Client(base_url=f"http://127.0.0.1:{run.port}", timeout=60) as client, ThreadPoolExecutor() as pool:
        answer = pool.submit(ready_to_pay(Shopper(client), card_number=SLOW).post)
        run.wait_for_charge("processing")
        os.kill(run.process.pid, signal.SIGTERM)
        assert answer.result().status_code == 303
    run.process.wait(timeout=60)
    assert run.charges() == ["succeeded"]


@pytest.mark.parametrize("setting", ["PORT", "SANDBOX_BANK_URL"])
def test_a_taken_port_is_one_clear_line(tmp_path: Path, setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        value = str(port) if setting == "PORT" else f"http://127.0.0.1:{port}"
        run = Run(tmp_path, **{setting: value})
        assert run.process.wait(timeout=60) != 0
    said = [line for line in run.said().splitlines() if not line.startswith("make:")]
    assert len(said) == 1, said
    assert str(port) in said[0]
    assert setting in said[0]


def test_a_senseless_setting_is_one_clear_line(tmp_path: Path) -> None:
    run = Run(tmp_path, SHOP_CURRENCY="GOLD")
    assert run.process.wait(timeout=60) != 0
    assert sum("SHOP_CURRENCY" in line for line in run.said().splitlines()) == 1
    assert "Traceback" not in run.said()


def test_the_secret_is_made_once_and_for_the_owner_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup.run, "INSTANCE", tmp_path / "instance")
    first = setup.run.secret_key()
    assert len(first) == 64
    assert setup.run.secret_key() == first
    assert stat.S_IMODE((tmp_path / "instance").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "instance" / "secret_key").stat().st_mode) == 0o600
    assert os.listdir(tmp_path / "instance") == ["secret_key"]


def test_another_gateway_needs_no_sandbox_bank() -> None:
    assert "bank" in setup.run.commands({})
    assert "bank" not in setup.run.commands({"PAYMENT_GATEWAY": "stripe"})
