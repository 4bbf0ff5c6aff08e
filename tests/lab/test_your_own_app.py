"""The example in docs/your-own-app.md: its code is taken from the page, run in two processes and attacked."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import pytest

from lab import against
from lab.against import Target
from lab.serving import Server
from sandbox_bank import create_bank
from sandbox_bank.statement import statement
from tests.gateways.bank import free_port

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("lab")]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "your-own-app.md"
LOST, SILENT_TAKES, SILENT_TAKES_NOTHING = "4000 0000 0006 0022", "4000 0000 0006 0055", "4000 0000 0006 0063"


def example() -> str:
    found = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    assert len(found) == 1
    return str(found[0])


def test_the_example_is_short() -> None:
    """Blank lines, which the formatter demands, don't count."""
    assert sum(bool(line.strip()) for line in example().splitlines()) <= 80


class Example:
    """The example, served by gunicorn with two workers."""

    def __init__(self, folder: Path, bank_url: str) -> None:
        (folder / "checkout.py").write_text(example())
        self.url, self._folder = f"http://127.0.0.1:{free_port()}", folder
        self._env = {
            **os.environ,
            "BANK_URL": bank_url,
            "BANK_KEY": "k" * 32,
            "BOOKS": str(folder / "books.sqlite"),
            "PATIENCE": "0",
        }
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "gunicorn", "-w", "2", "--threads", "16", "-b", self.url[7:], "checkout:app"]
        self.process = subprocess.Popen(command, cwd=self._folder, env=self._env, start_new_session=True,
                                        stderr=subprocess.DEVNULL)  # fmt: skip
        end = monotonic() + 30
        while not _is_ready(self.url):
            assert monotonic() < end
            sleep(0.1)

    def kill(self) -> None:
        """Kill gunicorn's master and its workers with SIGKILL."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def recover(self) -> None:
        command = [sys.executable, "-m", "flask", "--app", "checkout", "recover"]
        subprocess.run(command, cwd=self._folder, env=self._env, check=True)

    def form(self, order_id: int, card: str) -> dict[str, str]:
        """Open the form of an order. Return its fields, filled in."""
        page = httpx.get(f"{self.url}/orders/{order_id}/pay").text
        token = re.search(r"name=token value=(\w+)", page)
        assert token
        return {"token": token[1], "card": card}


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/orders/1/pay").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[tuple[str, Callable[[], int]]]:
    """Yield the URL of a bank, and a function that returns the number of entries on its statement."""
    app = create_bank(f"sqlite:///{tmp_path}/bank/bank.sqlite", hold_seconds=20)
    server = Server(app)
    server.start()
    yield server.url, lambda: len(list(statement(app.config["BOOKS"])))
    server.stop()


@pytest.fixture
def shop(tmp_path: Path, bank: Any) -> Iterator[Example]:
    shop = Example(tmp_path, bank[0])
    yield shop
    shop.kill()


def test_it_is_green_in_every_attack_from_outside(shop: Example, bank: Any) -> None:
    reports = against.attack(Target(shop.url, "/orders/{n}/pay", "token"))
    assert [report.verdict for report in reports] == ["green"] * 4, reports
    assert bank[1]() == 4


def test_recovery_records_the_outcome_of_a_lost_answer(shop: Example, bank: Any) -> None:
    form = shop.form(1, LOST)
    answers = [httpx.post(f"{shop.url}/orders/1/pay", data=form, timeout=20) for _ in range(2)]
    assert answers[0].headers["Location"] == answers[1].headers["Location"]
    receipt = shop.url + answers[0].headers["Location"]
    assert "Do not pay again" in httpx.get(receipt).text
    shop.recover()
    assert httpx.get(receipt).text == "Paid, once."
    assert bank[1]() == 1


def test_a_charge_that_took_no_money_is_fenced_and_the_order_can_be_paid_again(shop: Example, bank: Any) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.post(f"{shop.url}/orders/1/pay", data=(form := shop.form(1, SILENT_TAKES_NOTHING)), timeout=1)
    shop.recover()
    assert "Nothing was taken" in httpx.get(f"{shop.url}/receipts/{form['token']}").text
    httpx.post(f"{shop.url}/orders/1/pay", data=shop.form(1, "4242 4242 4242 4242"))
    assert bank[1]() == 1


def test_after_a_kill_between_charge_and_record_it_still_charges_once(shop: Example, bank: Any) -> None:
    form = shop.form(1, SILENT_TAKES)
    with pytest.raises(httpx.TransportError):
        httpx.post(f"{shop.url}/orders/1/pay", data=form, timeout=1.5)
    assert bank[1]() == 1
    shop.kill()
    shop.start()
    again = httpx.post(f"{shop.url}/orders/1/pay", data=form)
    other_tab = httpx.post(f"{shop.url}/orders/1/pay", data=shop.form(1, "4242 4242 4242 4242"))
    assert again.headers["Location"] == other_tab.headers["Location"] == f"/receipts/{form['token']}"
    shop.recover()
    assert httpx.get(f"{shop.url}/receipts/{form['token']}").text == "Paid, once."
    assert bank[1]() == 1
