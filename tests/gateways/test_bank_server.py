"""The bank as processes: simultaneous starts, SIGTERM, SIGKILL, private files, and a database that is away."""

import multiprocessing
import socket
import sqlite3
import stat
from multiprocessing.synchronize import Barrier
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from sqlalchemy import NullPool, create_engine, inspect, make_url

from app.gateways.base import Outcome, Unknown
from app.gateways.sandbox.cards import Behaviour
from sandbox_bank.storage import metadata, open_storage
from tests.gateways.bank import WITH_KEY, at_once, card, charge_body, new_payment, outcomes, running_bank
from tests.postgres import Cluster

TIMEOUT = 20.0


# Without the lock, about one round in ten fails, because eight processes switch a new file to WAL together.
STARTERS, ROUNDS = 8, {"sqlite": 80, "postgresql": 8}


def _open_in_rounds(database_url: str, start: Barrier) -> None:
    for _ in range(ROUNDS[make_url(database_url).get_backend_name()]):
        start.wait(30)
        engine = open_storage(database_url)
        assert len(inspect(engine).get_table_names()) == 4
        engine.dispose()


def _empty(database_url: str) -> None:
    """Delete the bank's tables, as before the first start."""
    if database_url.startswith("sqlite"):
        for path in Path(database_url.removeprefix("sqlite:///")).parent.glob("*"):
            path.unlink()
        return
    engine = create_engine(database_url, poolclass=NullPool)
    metadata.drop_all(engine)


@pytest.mark.slow
def test_processes_that_start_together_all_open_the_database(bank_database_url: str) -> None:
    context = multiprocessing.get_context("fork")
    start = context.Barrier(STARTERS, action=lambda: _empty(bank_database_url))
    processes = [context.Process(target=_open_in_rounds, args=(bank_database_url, start)) for _ in range(STARTERS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * STARTERS


@pytest.mark.slow
def test_a_lookup_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    database_url = f"sqlite:///{tmp_path}/bank.sqlite"
    with running_bank(database_url, tmp_path) as bank:
        payment = new_payment()
        bank.gateway.charge(payment, card(), TIMEOUT)
        with sqlite3.connect(tmp_path / "bank.sqlite", isolation_level=None) as writer:
            writer.execute("BEGIN IMMEDIATE")
            assert bank.gateway.lookup(payment, 5) is not None
            assert len(list(bank.gateway.statement())) == 1
            writer.execute("ROLLBACK")
        writer.close()


@pytest.mark.slow
def test_only_the_owner_can_read_the_files(tmp_path: Path) -> None:
    folder = tmp_path / "private"
    with running_bank(f"sqlite:///{folder}/bank.sqlite", tmp_path) as bank:
        bank.gateway.charge(new_payment(), card(), TIMEOUT)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {"bank.sqlite", "bank.sqlite-wal"} <= modes.keys()
    assert set(modes.values()) == {0o600}


def test_sqlite_is_set_to_survive_a_power_cut(tmp_path: Path) -> None:
    engine = open_storage(f"sqlite:///{tmp_path}/bank.sqlite")
    with engine.connect() as connection:
        settings = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
    engine.dispose()
    assert settings == ["wal", 2]


@pytest.mark.slow
def test_sigterm_lets_a_running_charge_finish(bank_database_url: str, tmp_path: Path) -> None:
    with running_bank(bank_database_url, tmp_path, slow=1) as bank:
        payment = new_payment()
        with socket.create_connection((urlsplit(bank.url).hostname, urlsplit(bank.url).port)) as wire:
            wire.sendall(request_bytes(charge_body(payment, Behaviour.SLOW)))
            bank.gateway.lookup(payment, TIMEOUT)
            assert bank.stop() == 0
            assert b'"status":"succeeded"' in wire.makefile("rb").read()
        assert bank.moved(payment.key) == [("charge", 2400)]
        assert bank.log.read_text() == f"The sandbox bank listens at {bank.url}\n"


def request_bytes(body: dict[str, object]) -> bytes:
    """Return the HTTP request of a charge."""
    request = httpx.Request(
        "POST", "http://127.0.0.1/v1/charges", json=body, headers={**WITH_KEY, "Connection": "close"}
    )
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    return f"POST /v1/charges HTTP/1.1\r\n{head}\r\n".encode() + request.content


@pytest.mark.slow
def test_kills_under_load_neither_lose_nor_repeat_a_charge(bank_database_url: str, tmp_path: Path) -> None:
    """Every charge is repeated after the bank has restarted. Each key has moved money once."""
    with running_bank(bank_database_url, tmp_path) as bank:
        for _ in range(3):
            payments = [new_payment() for _ in range(12)]
            charges = [lambda p=p: bank.gateway.charge(p, card(), TIMEOUT) for p in payments]  # type: ignore[misc]
            at_once(*charges, bank.kill)
            bank.start()
            assert {answer.outcome for answer in at_once(*charges)} == {Outcome.SUCCEEDED}
            assert bank.moved(*(p.key for p in payments)) == [("charge", 2400)] * 12


@pytest.mark.slow
def test_a_silent_card_closes_the_connection_after_hold_seconds(tmp_path: Path) -> None:
    with running_bank(f"sqlite:///{tmp_path}/bank.sqlite", tmp_path, hold=0.5) as bank:
        with pytest.raises(Unknown) as unknown:
            bank.gateway.charge(new_payment(), card(Behaviour.SILENT_TAKES), TIMEOUT)
        assert "connection" in unknown.value.reason
        assert bank.log.read_text().count("\n") == 1


@pytest.mark.slow
def test_a_silent_card_frees_its_thread_when_the_client_has_gone(tmp_path: Path) -> None:
    """There are more such requests, one after the other, than the bank has threads."""
    with running_bank(f"sqlite:///{tmp_path}/bank.sqlite", tmp_path, hold=600) as bank:
        for _ in range(6):
            calls = [lambda: bank.gateway.charge(new_payment(), card(Behaviour.SILENT_TAKES_NOTHING), 0.5)] * 50
            # On a busy machine a connection may not open in that time. Then the client raises NotSent.
            assert set(outcomes(at_once(*calls))) <= {"Unknown", "NotSent"}
        assert bank.gateway.lookup(new_payment(), TIMEOUT) is None


@pytest.mark.postgres
@pytest.mark.slow
def test_the_bank_works_again_when_its_database_is_back(private_postgres: Cluster, tmp_path: Path) -> None:
    database_url = private_postgres.url(private_postgres.create())
    with running_bank(database_url, tmp_path) as bank:
        payment = new_payment()
        page = bank.gateway.charge(payment, card(Behaviour.ASKS_SHOPPER), TIMEOUT).action_url or ""
        private_postgres.stop("immediate")
        with pytest.raises(Unknown) as unknown:
            bank.gateway.charge(new_payment(), card(), TIMEOUT)
        assert unknown.value.reason == "the bank answered 503"
        failed = httpx.post(page, data={"decision": "confirm"})
        assert (failed.status_code, "it will say what happened" in failed.text) == (503, True)
        private_postgres.start()
        assert bank.gateway.lookup(payment, TIMEOUT).outcome is Outcome.REQUIRES_ACTION  # type: ignore[union-attr]
        assert bank.gateway.charge(new_payment(), card(), TIMEOUT).outcome is Outcome.SUCCEEDED


@pytest.mark.slow
def test_two_banks_with_one_database_move_money_once_per_key(tmp_path: Path) -> None:
    database_url = f"sqlite:///{tmp_path}/bank.sqlite"
    (tmp_path / "other").mkdir()
    with running_bank(database_url, tmp_path) as one, running_bank(database_url, tmp_path / "other") as two:
        for _ in range(5):
            payment = new_payment()
            calls = [lambda b=b, p=payment: b.gateway.charge(p, card(), TIMEOUT) for b in (one, two) * 5]  # type: ignore[misc]
            assert {answer.outcome for answer in at_once(*calls)} == {Outcome.SUCCEEDED}
            assert one.moved(payment.key) == [("charge", 2400)]
