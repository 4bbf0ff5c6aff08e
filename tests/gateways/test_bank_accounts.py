"""The bank's accounts: each API key has books of its own, and the first one adopts those of an earlier version."""

import os
import subprocess
import sys
from contextlib import suppress

import httpx
import pytest
from sqlalchemy import create_engine, inspect, text

from app.gateways.base import Answer, Outcome, Payment
from app.gateways.sandbox.cards import Behaviour
from app.gateways.sandbox.client import SandboxGateway
from sandbox_bank.statement import statement
from sandbox_bank.storage import open_storage
from tests.factories import API_KEY
from tests.gateways.bank import (
    ROOT,
    WITH_KEY,
    RunningBank,
    at_once,
    card,
    charge_body,
    free_port,
    new_payment,
    new_refund,
    running_bank,
    until,
)

pytestmark = pytest.mark.slow

TIMEOUT = 20.0
OTHER_KEY = "another-key-of-thirty-two-characters"

EARLIER_BANK = """
CREATE TABLE bank_charges (key VARCHAR(200) PRIMARY KEY, status VARCHAR(20) NOT NULL, reason VARCHAR(40),
    fingerprint VARCHAR(64), amount BIGINT, currency VARCHAR(3), last4 VARCHAR(4), shop VARCHAR(100),
    return_url VARCHAR(2000), action_id VARCHAR(43) UNIQUE, calls INTEGER NOT NULL, refunded BIGINT DEFAULT 0 NOT NULL);
CREATE TABLE bank_refunds (key VARCHAR(200) PRIMARY KEY, charge VARCHAR(200) NOT NULL, status VARCHAR(20) NOT NULL,
    reason VARCHAR(40), amount BIGINT NOT NULL, currency VARCHAR(3) NOT NULL);
CREATE TABLE bank_movements (id INTEGER PRIMARY KEY, key VARCHAR(200) NOT NULL, kind VARCHAR(6) NOT NULL,
    amount BIGINT NOT NULL, currency VARCHAR(3) NOT NULL, at TIMESTAMP WITH TIME ZONE NOT NULL);
INSERT INTO bank_charges VALUES ('paid', 'succeeded', NULL, 'f', 2400, 'EUR', '4242', 'Shop', 'http://shop/', NULL, 1,
    400), ('fenced', 'canceled', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0);
INSERT INTO bank_refunds VALUES ('back', 'paid', 'succeeded', NULL, 400, 'EUR');
INSERT INTO bank_movements VALUES (7, 'paid', 'charge', 2400, 'EUR', '2026-01-01 10:00:00'),
    (9, 'back', 'refund', 400, 'EUR', '2026-01-02 10:00:00');
"""
"""The tables and some rows of the version without accounts."""


@pytest.fixture
def earlier_bank(bank_database_url: str) -> str:
    """Return the URL of a bank's database that an earlier version has left."""
    open_storage(bank_database_url).dispose()
    engine = create_engine(bank_database_url)
    with engine.begin() as tx:
        for sql in filter(str.strip, EARLIER_BANK.split(";")):
            tx.execute(text(sql))
    engine.dispose()
    return bank_database_url


def other_gateway(bank: RunningBank) -> SandboxGateway:
    return SandboxGateway(bank.url, OTHER_KEY)


@pytest.mark.parametrize("header", [
    {}, {"Authorization": "Bearer " + "k" * 31}, {"Authorization": f"Basic {API_KEY}"}, {"Authorization": "Bearer"},
    {"Authorization": "Bearer " + "k" * 201}, {"Authorization": f"Bearer {API_KEY} {API_KEY}"},
])  # fmt: skip
def test_without_a_key_nothing_can_be_seen_or_moved(bank: RunningBank, header: dict[str, str]) -> None:
    payment = new_payment()
    path, statement_path, refunds = f"/v1/charges/{payment.key}", "/v1/statement", "/v1/refunds"
    answers = [
        httpx.post(f"{bank.url}/v1/charges", json=charge_body(payment), headers=header),
        httpx.post(bank.url + path + "/cancel", headers=header),
        httpx.post(bank.url + refunds, json={"key": "r", "charge": payment.key}, headers=header),
        *(httpx.get(bank.url + each, headers=header) for each in (path, refunds + "/r", statement_path)),
    ]
    assert [(answer.status_code, answer.json()["error"]) for answer in answers] == [(401, "no_api_key")] * 6
    assert bank.gateway.lookup(payment, TIMEOUT) is None
    assert bank.moved(payment.key) == []


def test_an_account_can_neither_see_nor_refund_the_payments_of_another(bank: RunningBank) -> None:
    other, ours = other_gateway(bank), new_payment()
    assert bank.gateway.charge(ours, card(), TIMEOUT).outcome is Outcome.SUCCEEDED
    assert other.lookup(ours, TIMEOUT) is None
    refund = new_refund(ours, 100)
    assert other.refund(refund, TIMEOUT) == Answer(Outcome.DECLINED, reason="nothing_was_taken")
    assert bank.gateway.lookup_refund(refund, TIMEOUT) is None
    assert ours.key in {entry.key for entry in bank.gateway.statement()}
    assert ours.key not in {entry.key for entry in other.statement()}
    other.close()


def test_two_accounts_may_use_the_same_key(bank: RunningBank) -> None:
    other, payment, less = other_gateway(bank), new_payment(), 100
    assert other.cancel(payment, TIMEOUT).outcome is Outcome.CANCELED, "another account's fence concerns only its own"
    assert bank.gateway.charge(payment, card(), TIMEOUT).outcome is Outcome.SUCCEEDED
    third = SandboxGateway(bank.url, OTHER_KEY * 2)
    assert third.charge(Payment(payment.key, less, "EUR", payment.return_url), card(), TIMEOUT) == Answer(
        Outcome.SUCCEEDED
    )
    assert sorted(bank.moved(payment.key)) == [("charge", less), ("charge", 2400)]
    other.close(), third.close()


def test_only_the_confirmation_page_is_public(bank: RunningBank) -> None:
    page = bank.gateway.charge(new_payment(), card(Behaviour.ASKS_SHOPPER), TIMEOUT).action_url or ""
    assert httpx.get(page).status_code == 200
    assert httpx.post(page, data={"decision": "confirm"}).status_code == 303


@pytest.mark.parametrize("path", ["/v1/statement", "/healthz", "/3ds/" + "a" * 32, "/static/bank.css"])
def test_it_answers_only_to_its_own_host_names(bank: RunningBank, path: str) -> None:
    def get(host: str) -> int:
        return httpx.get(bank.url + path, headers=WITH_KEY | {"Host": host}).status_code

    port = bank.url.rpartition(":")[2]
    assert [
        get(host) for host in ("evil.example", f"evil.example:{port}", "bank.localhost.evil.example", "[", "a b")
    ] == [400] * 5
    assert (
        get("[::1]")
        == get(f"localhost:{port}")
        == get(f"127.0.0.1:{port}")
        == (404 if path.startswith("/3ds") else 200)
    )


def test_the_first_account_adopts_the_books_of_an_earlier_version(earlier_bank: str, tmp_path: object) -> None:
    """Charges made before stay known under the present key, fenced keys stay fenced, and what is left is right."""
    paid, fenced = new_payment(2400, key="paid"), new_payment(2400, key="fenced")
    before = [("paid", "charge", 2400), ("back", "refund", 400)]
    with running_bank(earlier_bank, tmp_path) as bank:  # type: ignore[arg-type]
        first = at_once(*[lambda: bank.gateway.lookup(paid, TIMEOUT)] * 8)
        assert first == [Answer(Outcome.SUCCEEDED)] * 8
        assert other_gateway(bank).lookup(paid, TIMEOUT) is None
        assert bank.gateway.charge(fenced, card(), TIMEOUT).outcome is Outcome.CANCELED
        assert bank.gateway.lookup_refund(new_refund(paid, 400, key="back"), TIMEOUT) == Answer(Outcome.SUCCEEDED)
        assert bank.gateway.refund(new_refund(paid, 2001), TIMEOUT).reason == "more_than_is_left"
        assert bank.gateway.refund(new_refund(paid, 2000, key="rest"), TIMEOUT).outcome is Outcome.SUCCEEDED
        entries = list(bank.gateway.statement())
        assert list(other_gateway(bank).statement()) == []
    assert [(entry.key, entry.kind, entry.amount) for entry in entries] == [*before, ("rest", "refund", 2000)]
    assert [entry.payment_reference for entry in entries] == ["paid"] * 3
    assert [entry.shop_id for entry in entries] == [None, None, "test-shop"]
    engine = create_engine(earlier_bank)
    assert not set(inspect(engine).get_table_names()) & {"bank_charges", "bank_refunds", "bank_movements"}
    engine.dispose()


@pytest.mark.slow
def test_the_command_opens_its_own_account_first(earlier_bank: str) -> None:
    """A stranger who asks first does not get the books of the earlier version."""
    url = f"http://127.0.0.1:{free_port()}"
    env = {"SANDBOX_BANK_URL": url, "SANDBOX_DATABASE_URL": earlier_bank, "SANDBOX_API_KEY": API_KEY}
    bank = subprocess.Popen([sys.executable, "-m", "sandbox_bank"], cwd=ROOT, env=os.environ | env)
    stranger, owner = SandboxGateway(url, OTHER_KEY), SandboxGateway(url, API_KEY)

    def is_ready() -> bool:
        assert bank.poll() is None
        with suppress(httpx.TransportError):
            return httpx.get(f"{url}/healthz").status_code == 200
        return False

    try:
        until(is_ready, 60)
        assert list(stranger.statement()) == []
        assert [entry.key for entry in owner.statement()] == ["paid", "back"]
    finally:
        bank.terminate()
        assert bank.wait(30) == 0


def test_the_bank_stores_no_key(bank: RunningBank) -> None:
    bank.gateway.charge(new_payment(), card(), TIMEOUT)
    engine = open_storage(bank.database_url)
    with engine.connect() as connection:
        names = inspect(engine).get_table_names()
        written = str([connection.execute(text(f"SELECT * FROM {name}")).all() for name in names])
    assert "test-shop" in written and API_KEY not in written and API_KEY not in bank.log.read_text()
    assert {entry.shop_id for entry in statement(engine)} >= {"test-shop"}
    engine.dispose()
