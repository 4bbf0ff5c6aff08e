"""The client's connections: kept alive, forked, shared by threads; and what never travels on them."""

import json
import logging
import os
import socket
import traceback
from typing import Any

import httpx
import pytest

from app.gateways.base import Answer, Card, NotSent, Outcome, Unknown
from app.gateways.sandbox.cards import CARDS, normalise
from app.gateways.sandbox.client import SandboxGateway
from sandbox_bank import create_bank
from sandbox_bank.storage import metadata, open_storage, reading
from tests.gateways.bank import RunningBank, at_once, card, free_port, payment, running_bank
from tests.gateways.servers import read_request, response, server


def test_a_kept_alive_connection_that_breaks_is_unknown_never_not_sent_and_never_tried_again() -> None:
    """The bank closes it when the second request comes: nobody can tell whether it was read."""
    asked, requests = payment(), []

    def serve(connection: socket.socket) -> None:
        requests.append(read_request(connection))
        fields = {"key": asked.key, "status": "succeeded", "amount": asked.amount, "currency": asked.currency}
        connection.sendall(response(json.dumps(fields).encode()))
        if read_request(connection):
            requests.append(b"second")

    with server(serve) as gateway:
        assert gateway.charge(asked, card(), 5).outcome is Outcome.SUCCEEDED
        with pytest.raises(Unknown):
            gateway.charge(asked, card(), 5)
    assert len(requests) == 2


@pytest.mark.slow
def test_an_idle_connection_closed_by_a_restart_is_noticed(books: str, tmp_path: Any) -> None:
    with running_bank(books, tmp_path) as bank:
        asked = payment()
        first = bank.gateway.charge(asked, card(), 20)
        bank.kill()
        with pytest.raises(NotSent):
            bank.gateway.lookup(asked, 20)
        bank.start()
        assert bank.gateway.charge(asked, card(), 20) == first
        assert bank.moved(asked.key) == [("charge", 2400)]


def test_the_environment_s_proxy_does_not_count(bank: RunningBank, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    gateway = SandboxGateway(bank.url)
    assert gateway.charge(payment(), card(), 20).outcome is Outcome.SUCCEEDED
    gateway.close()


def test_processes_that_fork_share_no_connection(bank: RunningBank) -> None:
    asked = payment()
    bank.gateway.charge(asked, card(), 20)
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            right = all(bank.gateway.lookup(asked, 20) == Answer(Outcome.SUCCEEDED) for _ in range(30))
            os._exit(0 if right else 1)
        children.append(child)
    assert all(bank.gateway.lookup(asked, 20) for _ in range(30))
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4


def test_threads_share_one_gateway(bank: RunningBank) -> None:
    gateway = SandboxGateway(bank.url)
    asked = [payment(amount) for amount in range(1, 31)]
    answers = at_once(*[lambda p=p: gateway.charge(p, card(), 20) for p in asked])  # type: ignore[misc]
    assert answers == [Answer(Outcome.SUCCEEDED)] * 30
    assert sorted(bank.moved(*(p.key for p in asked))) == [("charge", amount) for amount in range(1, 31)]
    gateway.close()


def test_it_runs_over_a_bank_in_the_same_process_too(tmp_path: Any) -> None:
    bank = create_bank(f"sqlite:///{tmp_path}/bank.sqlite", hold_seconds=0)
    gateway = SandboxGateway("http://bank.test", transport=httpx.WSGITransport(app=bank))
    asked = payment()
    assert gateway.charge(asked, card(), 5).outcome is Outcome.SUCCEEDED
    for lost in (3, 5, 8):
        given = Card(CARDS[lost].number, "12/30", "123")
        if lost == 3:
            assert (gateway.charge(payment(), given, 5).action_url or "").startswith("http://bank.test/3ds/")
        else:
            with pytest.raises(Unknown):
                gateway.charge(payment(), given, 5)
    assert next(gateway.statement()).key == asked.key


@pytest.mark.parametrize("number", ["5555 5555 5555 4444", "", "4242424242424241"])
def test_any_other_card_is_refused_before_a_byte_is_sent(number: str) -> None:
    connections = []
    with server(connections.append) as gateway, pytest.raises(ValueError) as error:
        gateway.charge(payment(), Card(number, "12/30", "123"), 5)
    assert not connections
    assert not number or number not in str(error.value)
    with pytest.raises(ValueError):
        SandboxGateway("http://127.0.0.1:9").charge(payment(), None, 5)


@pytest.mark.slow
def test_no_card_number_in_logs_errors_or_books(bank: RunningBank, caplog: pytest.LogCaptureFixture) -> None:
    """Every card once, with the most talkative logging; then everything that was written anywhere is searched."""
    caplog.set_level(logging.DEBUG)
    errors = [repr(card()), str(card())]
    for one in CARDS:
        for gateway in (bank.gateway, SandboxGateway(f"http://127.0.0.1:{free_port()}")):
            try:
                gateway.charge(payment(), Card(one.number, "12/30", "123"), 1)
            except (NotSent, Unknown):
                errors.append(traceback.format_exc())
    written = {"log": caplog.text, "errors": "".join(errors), "bank": bank.log.read_text(), "books": rows(bank)}
    assert "127.0.0.1" in written["log"], "the log was on"
    for one in CARDS:
        for number in (one.number, normalise(one.number)):
            assert [place for place, text in written.items() if number in text] == []


def rows(bank: RunningBank) -> str:
    """Everything in the bank's tables."""
    engine = open_storage(bank.books)
    with reading(engine) as look:
        everything = [str(row) for table in metadata.tables.values() for row in look.execute(table.select())]
    engine.dispose()
    assert len(everything) > 10
    return "\n".join(everything)
