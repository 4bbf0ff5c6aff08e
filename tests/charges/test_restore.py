"""docs/restore.md, tried: a real backup, payments and refunds after it, a real restore, and every repair.

The commands that save and restore the database are taken from the page. The sandbox bank forgets nothing.
"""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import make_url

from app.charges import reconcile
from app.database import db
from setup import postgres as programs
from tests.factories import BOWL, DECLINES, MUG, ready_to_pay
from tests.page import Form
from tests.recovery import recover_and_audit
from tests.shops import Shop

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "restore.md").read_text()


@pytest.fixture
def database_url(own_url: str) -> str:
    return own_url


@pytest.fixture
def run_from_page(shop: Shop, engine_name: str, tmp_path: Path) -> Callable[[str, str], None]:
    """Return a function that runs the page's command that contains a word, for the engine of this test."""
    url = make_url(shop.database_url)
    binaries = programs.find() if engine_name == "postgresql" else None
    env = {
        "PATH": f"{binaries}:{os.environ['PATH']}", "BACKUP": str(tmp_path / "backup"), "FILE": str(url.database),
        "DATABASE_URL": url.set(drivername="postgresql").render_as_string(hide_password=False),
    }  # fmt: skip

    def run(postgresql: str, sqlite: str) -> None:
        word = postgresql if engine_name == "postgresql" else sqlite
        (line,) = re.findall(rf"^ {{4,}}(.*{re.escape(word)}.*)$", PAGE, re.M)
        with shop.app.app_context():
            db.engine.dispose()
        subprocess.run(line, shell=True, check=True, env=env, cwd=tmp_path)

    return run


def pay(shop: Shop, slug: str = MUG, **fields: Any) -> tuple[Form, str]:
    """Pay with a new browser. Return the form and the charge's key."""
    form = ready_to_pay(shop.shopper(), slug, email=f"{uuid4().hex}@example.org", **fields)
    form.submit()
    [(key,)] = shop.rows("SELECT key FROM charge ORDER BY id DESC LIMIT 1")
    return form, str(UUID(str(key)))


def flask(shop: Shop, *words: str) -> tuple[int, str]:
    """Run a command. Return its exit code and what it has printed."""
    with shop.app.app_context():
        result = shop.app.test_cli_runner().invoke(args=list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def audit(shop: Shop) -> tuple[int, dict[str, Any]]:
    code, output = flask(shop, "audit", "--json")
    return code, json.loads(output)


def refund(shop: Shop, key: str, *words: str) -> str:
    """Refund a payment. Return the refund's key."""
    [(receipt,)] = [row[1:] for row in shop.rows("SELECT key, receipt_id FROM charge") if str(UUID(str(row[0]))) == key]
    code, output = flask(shop, "refund", receipt, *words)
    assert code == 0, output
    found = re.search(r"key: (\S+)", output)
    assert found
    return found[1]


@pytest.fixture
def lost(shop: Shop, run_from_page: Callable[[str, str], None]) -> Iterator[dict[str, Any]]:
    """A shop that was restored: `kept` was paid before, `paid` and `part` after; `back` and `half` are refunds."""
    kept, kept_key = pay(shop)
    run_from_page("pg_dump", "sqlite3.connect")
    paid, paid_key = pay(shop, BOWL)
    _, part_key = pay(shop)
    half, back = refund(shop, part_key, "--amount=10"), refund(shop, kept_key)
    pay(shop, card_number=DECLINES)
    run_from_page("pg_restore", "cp ")
    assert shop.charges() == {"succeeded": 1}
    yield {"kept": kept, "paid": paid, "keys": [paid_key, part_key, half, back], "kept_key": kept_key}


def test_the_procedure_of_the_page(shop: Shop, lost: dict[str, Any]) -> None:
    paid, part, half, back = lost["keys"]
    stock = shop.stock(MUG), shop.stock(BOWL)
    # 5. See what is missing. The audit reports it as a breach.
    code, output = flask(shop, "reconcile")
    lines = output.splitlines()
    assert (code, len(lines), "Only at the gateway: 4." in lines[-1]) == (1, 5, True)
    for key, amount in zip(lost["keys"], ("€32.00", "€24.00", "€10.00", "€24.00"), strict=True):
        assert len([line for line in lines if f" {amount}  {key}" in line]) == 1, (key, output)
    code, report = audit(shop)
    assert (code, sorted(report["invariants"][2]["offenders"])) == (1, sorted(
        f"{kind} {key} is not in the books"
        for kind, key in (("charge", paid), ("charge", part), ("refund", half), ("refund", back))
    ))  # fmt: skip
    assert [each["number"] for each in report["invariants"] if not each["holds"]] == [3]
    # The decisions, twice: the second time changes nothing.
    for _ in range(2):
        code, output = flask(shop, "reconcile", "--adopt", back, "--adopt", paid, "--refund", part)
        assert code == 0, output
        assert f"{part}: refund of €24.00: succeeded" in output
    moved = [(entry.kind, entry.amount) for entry in shop.statement()]
    assert moved.count(("refund", 1400)) == 1 and len(moved) == 6
    # 6. Both commands agree, and the adopted payments stay listed.
    assert flask(shop, "reconcile") == (0, "Only at the gateway: 0\n")
    code, report = audit(shop)
    assert (code, len(report["adopted"]), report["foreign"]) == (0, 2, [])
    assert (shop.stock(MUG), shop.stock(BOWL)) == stock
    page = lost["paid"].submit()
    assert (page.status, page.path.startswith("/receipts/")) == (200, True)
    assert shop.rows("SELECT name FROM charge_line WHERE product_id IS NULL") == [("Adopted payment",)] * 2
    assert not shop.rows("SELECT * FROM outbox_email WHERE charge_id IN (SELECT id FROM charge WHERE email = '')")
    recover_and_audit(shop)


def test_a_refund_needs_its_payment_and_the_order_of_the_choices_does_not_matter(
    shop: Shop, lost: dict[str, Any]
) -> None:
    _, part, half, _ = lost["keys"]
    code, output = flask(shop, "reconcile", "--adopt", half)
    assert (code, f"adopt its payment first: {part}" in output) == (1, True)
    assert flask(shop, "reconcile", "--adopt", half, "--adopt", part)[0] == 0
    assert shop.value("SELECT refunded FROM charge WHERE reason = 'adopted'") == 1000


def test_what_makes_no_sense_is_refused_and_changes_nothing(shop: Shop, lost: dict[str, Any]) -> None:
    unknown, half = str(uuid4()), lost["keys"][2]
    for words, why in (
        (["--adopt", unknown], "no statement has this key"), (["--refund", half], "this is a refund already"),
        (["--refund", lost["kept_key"]], "its payment is in the books"),
    ):  # fmt: skip
        code, output = flask(shop, "reconcile", *words)
        assert (code, why in output, "nothing was done" in output) == (1, True, True)
    assert flask(shop, "reconcile", "--adopt", lost["kept_key"])[0] == 0, "it is in the books already"
    assert flask(shop, "reconcile", "--adopt", "x")[0] == 2
    assert shop.charges() == {"succeeded": 1}


class RefundAnswersLost(httpx.WSGITransport):
    """The bank, which makes refunds but whose answers to them never arrive."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        if (request.method, request.url.path) == ("POST", "/v1/refunds"):
            response.read()
            raise httpx.ReadError("the answer was lost")
        return response


def test_a_refund_whose_answer_is_lost_is_repeated_under_the_same_key(shop: Shop, lost: dict[str, Any]) -> None:
    paid = lost["keys"][0]
    shop.use_transport(RefundAnswersLost(app=shop.bank))
    assert flask(shop, "reconcile", "--refund", paid)[0] == 3
    shop.use_transport(httpx.WSGITransport(app=shop.bank))
    assert flask(shop, "reconcile", "--refund", paid)[0] == 3, "recovery has not asked yet"
    with shop.app.app_context():
        assert reconcile.is_in_books(UUID(paid))
    for key in lost["keys"][1:]:
        flask(shop, "reconcile", "--adopt", key)
    recover_and_audit(shop)
    assert flask(shop, "reconcile", "--refund", paid)[0] == 0
    assert [entry.amount for entry in shop.statement() if entry.kind == "refund"].count(3200) == 1


def test_without_a_statement_nothing_is_decided(shop: Shop, lost: dict[str, Any]) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    shop.use_transport(httpx.MockTransport(refuse))
    for words in ([], ["--adopt", lost["keys"][0]], ["--refund", lost["keys"][0]]):
        assert flask(shop, "reconcile", *words)[0] == 2
    assert shop.charges() == {"succeeded": 1}
