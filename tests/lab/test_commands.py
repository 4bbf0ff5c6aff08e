"""`flask lab` in the terminal, and its attacks on other checkouts."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from lab import against
from lab.against import NoSuchForm, NotLoopback, Target, check_loopback
from lab.commands import lab
from lab.defences import payonce
from lab.serving import Server
from sandbox_bank import create_bank
from sandbox_bank.statement import statement

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("lab")]


def run(*words: str) -> Any:
    return CliRunner().invoke(lab, words)


def test_json_for_machines() -> None:
    done = run("--defence", "7", "--attack", "1", "--rounds", "2", "--json")
    assert done.exit_code == 0, done.output
    cells = json.loads(done.stdout)
    assert len(cells) == 2
    for cell in cells:
        said = {name: cell[name] for name in ("defence", "attack", "charges", "expected", "verdict")}
        assert said == {"defence": 7, "attack": 1, "charges": 1, "expected": 1, "verdict": "green"}


def test_a_table_for_people() -> None:
    done = run("--defence", "2", "--attack", "2")
    assert done.exit_code == 0, "a defence that is meant to fail is no failure of the program"
    assert "2 PRG only" in done.stdout
    assert "2× red" in done.stdout


@pytest.mark.parametrize(
    "url",
    ["http://192.0.2.1/", "http://[2001:db8::1]:80/", "ftp://127.0.0.1/", "file:///etc/passwd", "127.0.0.1", "http://"],
)
def test_nothing_but_this_machine_is_attacked(url: str) -> None:
    with pytest.raises(NotLoopback):
        check_loopback(url)
    assert run("--against", url).exit_code == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://127.1.2.3:1", "http://[::1]:1"])
def test_this_machine_may_be_attacked(url: str) -> None:
    check_loopback(url)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[tuple[str, Any]]:
    """PayOnce on a port, as a stranger's checkout would be, and its bank's books."""
    bank = create_bank(f"sqlite:///{tmp_path}/bank/bank.sqlite")
    app = payonce.create("http://127.0.0.1:1", tmp_path, 5.0, httpx.WSGITransport(app=bank))
    server = Server(app)
    server.start()
    yield server.url, bank.config["BOOKS"]
    server.stop()


FIELDS = {
    "email": "shopper{n}@example.com", "name": "Sam", "card_number": "4242424242424242", "card_expiry": "12/40",
    "card_cvc": "123",
}  # fmt: skip


def test_a_checkout_that_holds_is_found_to_hold(shop: tuple[str, Any]) -> None:
    target = Target(shop[0], "/checkout", "checkout_token", "/products/morning-mug", FIELDS)
    reports = against.attack(target)
    assert [report.verdict for report in reports] == ["green"] * 4, reports
    assert [report.requests for report in reports] == [2, 2, 20, 2]
    assert len(list(statement(shop[1]))) == len(reports)


def test_a_form_that_is_not_there_is_said(shop: tuple[str, Any]) -> None:
    with pytest.raises(NoSuchForm, match="/checkout answered 200 without a form"):
        against.attack(Target(shop[0], "/checkout", "no_such_token", "/products/morning-mug"))


def test_fields_must_be_pairs() -> None:
    assert run("--against", "http://127.0.0.1:1", "--field", "email").exit_code == 2


def test_several_receipts_are_red() -> None:
    report = against.Report("Double-click", requests=2, redirects=2, receipts=2, errors=0)
    assert report.verdict == "red"
    assert against.Report("Double-click", 2, 1, 1, 1).verdict == "amber"
    assert against.Report("Double-click", 2, 0, 0, 2).verdict == "amber"
