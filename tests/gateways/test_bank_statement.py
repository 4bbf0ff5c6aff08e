"""The statement: streamed, in order, for people and programs, also while the bank is not running."""

import json
import socket
import tracemalloc
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskCliRunner
from sqlalchemy import insert

from app.gateways.base import Unknown
from app.gateways.sandbox.cards import Behaviour
from sandbox_bank.accounts import account_id
from sandbox_bank.commands import sandbox
from sandbox_bank.statement import BATCH, statement
from sandbox_bank.storage import movements, open_storage
from tests.factories import API_KEY
from tests.gateways.bank import card, new_payment, new_refund, running_bank
from tests.gateways.servers import read_request, server

MANY = 30_000


def insert_charges(database_url: str, count: int) -> None:
    """Insert `count` charges into the statement, one second apart."""
    engine, start = open_storage(database_url), datetime(2026, 1, 1, tzinfo=UTC)
    rows = [
        {
            "account": account_id(API_KEY),
            "key": f"k{n}",
            "charge": f"k{n}",
            "kind": "charge",
            "amount": n + 1,
            "currency": "EUR",
            "at": start + timedelta(seconds=n),
        }
        for n in range(count)
    ]
    with engine.begin() as tx:
        tx.execute(insert(movements), rows)
    engine.dispose()


def runner(database_url: str, url: str = "http://127.0.0.1:9") -> FlaskCliRunner:
    app = Flask(__name__)
    app.cli.add_command(sandbox)
    return app.test_cli_runner(
        env={"SANDBOX_DATABASE_URL": database_url, "SANDBOX_BANK_URL": url, "SANDBOX_API_KEY": API_KEY}
    )


@pytest.mark.slow
def test_a_long_statement_is_read_in_order_and_in_little_memory(bank_database_url: str) -> None:
    insert_charges(bank_database_url, MANY)
    engine = open_storage(bank_database_url)
    lines = statement(engine)
    list(islice(lines, BATCH * 2))
    tracemalloc.start()
    assert [line.amount for line in islice(lines, 3)] == [BATCH * 2 + 1, BATCH * 2 + 2, BATCH * 2 + 3]
    count = sum(1 for _ in lines)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    engine.dispose()
    assert count == MANY - BATCH * 2 - 3
    assert peak < 8_000_000, peak


@pytest.mark.slow
def test_the_client_reads_it_over_http(bank_database_url: str, tmp_path: Path) -> None:
    insert_charges(bank_database_url, MANY)
    with running_bank(bank_database_url, tmp_path) as bank:
        lines = list(bank.gateway.statement())
    assert [line.amount for line in lines] == list(range(1, MANY + 1))
    assert lines[-1].at == datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=MANY - 1)


@pytest.mark.slow
def test_charges_work_while_a_statement_is_half_read(bank_database_url: str, tmp_path: Path) -> None:
    insert_charges(bank_database_url, MANY)
    with running_bank(bank_database_url, tmp_path) as bank:
        slow_reader = bank.gateway.statement()
        assert next(slow_reader).key == "k0"
        for _ in range(10):
            bank.gateway.charge(new_payment(), card(), 20)
        assert MANY - 1 <= sum(1 for _ in slow_reader) <= MANY + 9


def test_a_statement_that_breaks_off_is_not_taken_for_a_complete_one() -> None:
    line = b'{"key": "a", "kind": "charge", "amount": 1, "currency": "EUR", "at": "2026-01-01T00:00:00+00:00"}\n'

    def serve(connection: socket.socket) -> None:
        read_request(connection)
        chunk = f"{len(line):x}\r\n".encode() + line + b"\r\n"
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk)

    with server(serve) as gateway:
        lines = gateway.statement()
        assert next(lines).key == "a"
        with pytest.raises(Unknown):
            next(lines)


@pytest.mark.slow
def test_the_command_prints_json_and_a_table_while_the_bank_runs_and_after_it(
    bank_database_url: str, tmp_path: Path
) -> None:
    with running_bank(bank_database_url, tmp_path) as bank:
        payment = new_payment()
        bank.gateway.charge(payment, card(), 20)
        refund = new_refund(payment, 400)
        bank.gateway.refund(refund, 20)
        bank.gateway.charge(new_payment(), card(Behaviour.DECLINES), 20)
        running = runner(bank_database_url).invoke(args=["sandbox", "statement", "--json"])
    stopped = runner(bank_database_url).invoke(args=["sandbox", "statement", "--json"])
    assert running.exit_code == stopped.exit_code == 0
    assert running.output == stopped.output
    first, second = json.loads(stopped.output)
    assert (first["key"], first["kind"], first["amount"], first["currency"]) == (payment.key, "charge", 2400, "EUR")
    assert (second["key"], second["kind"], second["amount"]) == (refund.key, "refund", 400)
    assert datetime.fromisoformat(first["at"]).utcoffset() == timedelta(0)
    table = runner(bank_database_url).invoke(args=["sandbox", "statement"]).output
    assert "€24.00" in table and "€4.00" in table and "2 movements of money" in table


def test_an_empty_statement(bank_database_url: str) -> None:
    assert json.loads(runner(bank_database_url).invoke(args=["sandbox", "statement", "--json"]).output) == []
    assert runner(bank_database_url).invoke(args=["sandbox", "statement"]).output == "0 movements of money\n"


@pytest.mark.parametrize(
    "database_url", ["sqlite:////proc/nowhere/bank.sqlite", "sqlite://", "postgresql://127.0.0.1:1/bank"]
)
@pytest.mark.parametrize("command", [["statement"], ["statement", "--json"], ["serve"]])
def test_a_database_that_can_t_be_opened_is_reported_in_one_line(database_url: str, command: list[str]) -> None:
    result = runner(database_url).invoke(args=["sandbox", *command])
    assert result.exit_code == 1
    assert result.output.startswith("Error: the sandbox bank's database") and result.output.count("\n") == 1


def test_a_port_in_use_is_reported_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        result = runner(f"sqlite:///{tmp_path}/bank.sqlite", url).invoke(args=["sandbox", "serve"])
    assert result.exit_code == 1
    assert result.output == f"Error: the sandbox bank can't listen at {url}: Address already in use\n"


def test_help_texts_of_the_commands() -> None:
    for command, words in (("serve", "SANDBOX_BANK_URL"), ("statement", "does not have to be running")):
        result = runner("sqlite:///unused").invoke(args=["sandbox", command, "--help"])
        assert result.exit_code == 0 and words in result.output
