"""The command `lab`, and its attacks on other checkouts."""

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


def run(*arguments: str) -> Any:
    return CliRunner().invoke(lab, arguments)


def test_json_has_one_object_per_scene() -> None:
    done = run("--defence", "7", "--attack", "1", "--rounds", "2", "--json")
    assert done.exit_code == 0, done.output
    cells = json.loads(done.stdout)
    assert len(cells) == 2
    for cell in cells:
        values = {name: cell[name] for name in ("defence", "attack", "charges", "expected", "verdict")}
        assert values == {"defence": 7, "attack": 1, "charges": 1, "expected": 1, "verdict": "green"}


def test_the_table_shows_charges_and_verdict() -> None:
    done = run("--defence", "2", "--attack", "2")
    assert done.exit_code == 0, "only PayOnce must be green"
    assert "2 PRG only" in done.stdout
    assert "2× red" in done.stdout


@pytest.mark.parametrize(
    "url",
    ["http://192.0.2.1/", "http://[2001:db8::1]:80/", "ftp://127.0.0.1/", "file:///etc/passwd", "127.0.0.1", "http://"],
)
def test_only_loopback_addresses_can_be_attacked(url: str) -> None:
    with pytest.raises(NotLoopback):
        check_loopback(url)
    assert run("--against", url).exit_code == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://127.1.2.3:1", "http://[::1]:1"])
def test_every_loopback_address_can_be_attacked(url: str) -> None:
    check_loopback(url)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the URL of a PayOnce on a port of its own, and the database of its bank."""
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


def test_payonce_is_green_in_every_attack_from_outside(shop: tuple[str, Any]) -> None:
    target = Target(shop[0], "/checkout", "checkout_token", "/products/morning-mug", FIELDS)
    reports = against.attack(target)
    assert [report.verdict for report in reports] == ["green"] * 4, reports
    assert [report.requests for report in reports] == [2, 2, 20, 2]
    assert len(list(statement(shop[1]))) == len(reports)


def test_a_missing_token_field_is_reported(shop: tuple[str, Any]) -> None:
    with pytest.raises(NoSuchForm, match=r"/checkout \(status 200\) has no POST form with no_such_token"):
        against.attack(Target(shop[0], "/checkout", "no_such_token", "/products/morning-mug"))


def test_a_field_must_be_name_and_value() -> None:
    assert run("--against", "http://127.0.0.1:1", "--field", "email").exit_code == 2


def test_the_verdict_on_a_checkout() -> None:
    two_receipts = against.Report("Double-click", requests=2, redirects=2, receipts=2, errors=0)
    assert two_receipts.verdict == "red"
    assert against.Report("Double-click", 2, 1, 1, 1).verdict == "amber"
    assert against.Report("Double-click", 2, 0, 0, 2).verdict == "amber"
