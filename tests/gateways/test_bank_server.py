"""The bank as processes: many that start at once, SIGTERM, SIGKILL, files that nobody else may read, books that go."""

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
from tests.gateways.bank import at_once, card, charge_body, outcomes, payment, running_bank
from tests.postgres import Cluster

TIMEOUT = 20.0


# Without the lock, two of eight that switch a new file to WAL at the same moment fail once in some ten rounds.
STARTERS, ROUNDS = 8, {"sqlite": 80, "postgresql": 8}


def _open_again_and_again(books: str, start: Barrier) -> None:
    for _ in range(ROUNDS[make_url(books).get_backend_name()]):
        start.wait(30)
        engine = open_storage(books)
        assert len(inspect(engine).get_table_names()) == 3
        engine.dispose()


def _empty(books: str) -> None:
    """As before the very first start."""
    if books.startswith("sqlite"):
        for path in Path(books.removeprefix("sqlite:///")).parent.glob("*"):
            path.unlink()
        return
    engine = create_engine(books, poolclass=NullPool)
    metadata.drop_all(engine)


@pytest.mark.slow
def test_processes_that_start_at_the_same_moment_all_find_the_books(books: str) -> None:
    context = multiprocessing.get_context("fork")
    start = context.Barrier(STARTERS, action=lambda: _empty(books))
    processes = [context.Process(target=_open_again_and_again, args=(books, start)) for _ in range(STARTERS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * STARTERS


@pytest.mark.slow
def test_a_look_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    books = f"sqlite:///{tmp_path}/bank.sqlite"
    with running_bank(books, tmp_path) as bank:
        asked = payment()
        bank.gateway.charge(asked, card(), TIMEOUT)
        with sqlite3.connect(tmp_path / "bank.sqlite", isolation_level=None) as writer:
            writer.execute("BEGIN IMMEDIATE")
            assert bank.gateway.lookup(asked, 5) is not None
            assert len(list(bank.gateway.statement())) == 1
            writer.execute("ROLLBACK")
        writer.close()


@pytest.mark.slow
def test_only_the_owner_may_read_the_files(tmp_path: Path) -> None:
    folder = tmp_path / "private"
    with running_bank(f"sqlite:///{folder}/bank.sqlite", tmp_path) as bank:
        bank.gateway.charge(payment(), card(), TIMEOUT)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {"bank.sqlite", "bank.sqlite-wal"} <= modes.keys()
    assert set(modes.values()) == {0o600}


def test_sqlite_keeps_what_it_answered_through_a_power_cut(tmp_path: Path) -> None:
    engine = open_storage(f"sqlite:///{tmp_path}/bank.sqlite")
    with engine.connect() as connection:
        settings = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
    engine.dispose()
    assert settings == ["wal", 2]


@pytest.mark.slow
def test_sigterm_lets_a_charge_in_flight_finish(books: str, tmp_path: Path) -> None:
    with running_bank(books, tmp_path, slow=1) as bank:
        asked = payment()
        with socket.create_connection((urlsplit(bank.url).hostname, urlsplit(bank.url).port)) as wire:
            wire.sendall(httpx_bytes(charge_body(asked, Behaviour.SLOW)))
            bank.gateway.lookup(asked, TIMEOUT)
            assert bank.stop() == 0
            assert b'"status":"succeeded"' in wire.makefile("rb").read()
        assert bank.moved(asked.key) == [("charge", 2400)]
        assert bank.log.read_text() == f"The sandbox bank listens at {bank.url}\n"


def httpx_bytes(body: dict[str, object]) -> bytes:
    """A charge as it goes over the wire."""
    request = httpx.Request("POST", "http://bank/v1/charges", json=body, headers={"Connection": "close"})
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    return f"POST /v1/charges HTTP/1.1\r\n{head}\r\n".encode() + request.content


@pytest.mark.slow
def test_kills_under_load_lose_and_double_nothing(books: str, tmp_path: Path) -> None:
    """Every charge is asked again after the bank is back, and had been taken at most once."""
    with running_bank(books, tmp_path) as bank:
        for _ in range(3):
            asked = [payment() for _ in range(12)]
            charges = [lambda p=p: bank.gateway.charge(p, card(), TIMEOUT) for p in asked]  # type: ignore[misc]
            at_once(*charges, bank.kill)
            bank.start()
            assert {answer.outcome for answer in at_once(*charges)} == {Outcome.SUCCEEDED}
            assert bank.moved(*(p.key for p in asked)) == [("charge", 2400)] * 12


@pytest.mark.slow
def test_a_silent_card_lets_go_after_a_while(tmp_path: Path) -> None:
    with running_bank(f"sqlite:///{tmp_path}/bank.sqlite", tmp_path, hold=0.5) as bank:
        with pytest.raises(Unknown) as unknown:
            bank.gateway.charge(payment(), card(Behaviour.SILENT_TAKES), TIMEOUT)
        assert "connection" in unknown.value.reason
        assert bank.log.read_text().count("\n") == 1


@pytest.mark.slow
def test_a_silent_card_lets_go_when_the_client_has_gone(tmp_path: Path) -> None:
    """More of them, one after the other, than the bank has threads."""
    with running_bank(f"sqlite:///{tmp_path}/bank.sqlite", tmp_path, hold=600) as bank:
        for _ in range(6):
            calls = [lambda: bank.gateway.charge(payment(), card(Behaviour.SILENT_TAKES_NOTHING), 0.5)] * 50
            # On a busy machine a connection may not open in that time, which is not sent.
            assert set(outcomes(at_once(*calls))) <= {"Unknown", "NotSent"}
        assert bank.gateway.lookup(payment(), TIMEOUT) is None


@pytest.mark.postgres
@pytest.mark.slow
def test_the_bank_heals_when_its_database_comes_back(private_postgres: Cluster, tmp_path: Path) -> None:
    books = private_postgres.url(private_postgres.create())
    with running_bank(books, tmp_path) as bank:
        asked = payment()
        page = bank.gateway.charge(asked, card(Behaviour.ASKS_SHOPPER), TIMEOUT).action_url or ""
        private_postgres.stop("immediate")
        with pytest.raises(Unknown) as unknown:
            bank.gateway.charge(payment(), card(), TIMEOUT)
        assert unknown.value.reason == "the bank answered 503"
        lost = httpx.post(page, data={"decision": "confirm"})
        assert (lost.status_code, "it will say what happened" in lost.text) == (503, True)
        private_postgres.start()
        assert bank.gateway.lookup(asked, TIMEOUT).outcome is Outcome.REQUIRES_ACTION  # type: ignore[union-attr]
        assert bank.gateway.charge(payment(), card(), TIMEOUT).outcome is Outcome.SUCCEEDED


@pytest.mark.slow
def test_two_banks_over_one_set_of_books_still_move_money_once(tmp_path: Path) -> None:
    """The key decides, not the process."""
    books = f"sqlite:///{tmp_path}/bank.sqlite"
    (tmp_path / "other").mkdir()
    with running_bank(books, tmp_path) as one, running_bank(books, tmp_path / "other") as two:
        for _ in range(5):
            asked = payment()
            calls = [lambda b=b, p=asked: b.gateway.charge(p, card(), TIMEOUT) for b in (one, two) * 5]  # type: ignore[misc]
            assert {answer.outcome for answer in at_once(*calls)} == {Outcome.SUCCEEDED}
            assert one.moved(asked.key) == [("charge", 2400)]
