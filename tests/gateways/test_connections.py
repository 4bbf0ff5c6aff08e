"""The client's connections: kept alive, closed, with forks and threads; and no card number in any log."""

import json
import logging
import os
import socket
import traceback
from typing import Any

import httpx
import pytest

from app.gateways.base import Answer, Card, NotSent, Outcome, Unknown
from app.gateways.sandbox.cards import CARDS, Behaviour, normalise
from app.gateways.sandbox.client import SandboxGateway
from sandbox_bank import create_bank
from sandbox_bank.storage import metadata, open_storage, reading
from tests.factories import API_KEY
from tests.gateways.bank import RunningBank, at_once, card, free_port, new_payment, running_bank
from tests.gateways.servers import read_request, response, server
from tests.silence import at, line


def test_a_kept_alive_connection_that_breaks_is_unknown_and_is_not_retried() -> None:
    """The server closes it when the second request arrives. The client can't tell whether the request was read."""
    payment, requests = new_payment(), []

    def serve(connection: socket.socket) -> None:
        requests.append(read_request(connection))
        fields = {"key": payment.key, "status": "succeeded", "amount": payment.amount, "currency": payment.currency}
        connection.sendall(response(json.dumps(fields).encode()))
        if read_request(connection):
            requests.append(b"second")

    with server(serve) as gateway:
        assert gateway.charge(payment, card(), 5).outcome is Outcome.SUCCEEDED
        with pytest.raises(Unknown):
            gateway.charge(payment, card(), 5)
    assert len(requests) == 2


def test_a_kept_alive_connection_that_falls_silent_is_unknown_and_is_replaced(bank: RunningBank) -> None:
    """The request is not repeated, because it may arrive late. The next question opens a new connection."""
    payment = new_payment()
    with line(at(bank.url)) as network:
        gateway = SandboxGateway(f"http://{network.host}:{network.port}", API_KEY)
        assert gateway.charge(payment, card(), 20).outcome is Outcome.SUCCEEDED
        network.forget()
        with pytest.raises(Unknown):
            gateway.charge(payment, card(), 0.5)
        assert gateway.charge(payment, card(), 20).outcome is Outcome.SUCCEEDED
        gateway.close()
    assert bank.moved(payment.key) == [("charge", 2400)]


@pytest.mark.slow
def test_an_idle_connection_that_a_restart_closed_is_replaced(bank_database_url: str, tmp_path: Any) -> None:
    with running_bank(bank_database_url, tmp_path) as bank:
        payment = new_payment()
        first = bank.gateway.charge(payment, card(), 20)
        bank.kill()
        with pytest.raises(NotSent):
            bank.gateway.lookup(payment, 20)
        bank.start()
        assert bank.gateway.charge(payment, card(), 20) == first
        assert bank.moved(payment.key) == [("charge", 2400)]


def test_proxies_of_the_environment_are_not_used(bank: RunningBank, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    gateway = SandboxGateway(bank.url, API_KEY)
    assert gateway.charge(new_payment(), card(), 20).outcome is Outcome.SUCCEEDED
    gateway.close()


def test_forked_processes_share_no_connection(bank: RunningBank) -> None:
    payment = new_payment()
    bank.gateway.charge(payment, card(), 20)
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            correct = all(bank.gateway.lookup(payment, 20) == Answer(Outcome.SUCCEEDED) for _ in range(30))
            os._exit(0 if correct else 1)
        children.append(child)
    assert all(bank.gateway.lookup(payment, 20) for _ in range(30))
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4


def test_threads_share_one_gateway(bank: RunningBank) -> None:
    gateway = SandboxGateway(bank.url, API_KEY)
    payments = [new_payment(amount) for amount in range(1, 31)]
    answers = at_once(*[lambda p=p: gateway.charge(p, card(), 20) for p in payments])  # type: ignore[misc]
    assert answers == [Answer(Outcome.SUCCEEDED)] * 30
    assert sorted(bank.moved(*(p.key for p in payments))) == [("charge", amount) for amount in range(1, 31)]
    gateway.close()


def test_the_client_works_with_a_bank_in_the_same_process(tmp_path: Any) -> None:
    bank = create_bank(f"sqlite:///{tmp_path}/bank.sqlite", hosts=["bank.test"], hold_seconds=0)
    gateway = SandboxGateway("http://bank.test", API_KEY, transport=httpx.WSGITransport(app=bank))
    payment = new_payment()
    assert gateway.charge(payment, card(), 5).outcome is Outcome.SUCCEEDED
    waiting = gateway.charge(new_payment(), card(Behaviour.ASKS_SHOPPER), 5)
    assert (waiting.action_url or "").startswith("http://bank.test/3ds/")
    for behaviour in (Behaviour.LOSES_FIRST_ANSWER, Behaviour.SILENT_TAKES):
        with pytest.raises(Unknown):
            gateway.charge(new_payment(), card(behaviour), 5)
    assert next(gateway.statement()).key == payment.key


@pytest.mark.parametrize("number", ["5555 5555 5555 4444", "", "4242424242424241"])
def test_any_other_card_is_refused_before_anything_is_sent(number: str) -> None:
    connections = []
    with server(connections.append) as gateway, pytest.raises(ValueError) as error:
        gateway.charge(new_payment(), Card(number, "12/30", "123"), 5)
    assert not connections
    assert not number or number not in str(error.value)
    with pytest.raises(ValueError):
        SandboxGateway("http://127.0.0.1:9", API_KEY).charge(new_payment(), None, 5)


@pytest.mark.slow
def test_no_card_number_is_in_logs_errors_or_the_database(bank: RunningBank, caplog: pytest.LogCaptureFixture) -> None:
    """Charge every card with debug logging, then search everything that was written anywhere."""
    caplog.set_level(logging.DEBUG)
    errors = [repr(card()), str(card())]
    for test_card in CARDS:
        for gateway in (bank.gateway, SandboxGateway(f"http://127.0.0.1:{free_port()}", API_KEY)):
            try:
                gateway.charge(new_payment(), Card(test_card.number, "12/30", "123"), 1)
            except (NotSent, Unknown):
                errors.append(traceback.format_exc())
    written = {"log": caplog.text, "errors": "".join(errors), "bank": bank.log.read_text(), "database": rows(bank)}
    assert "127.0.0.1" in written["log"], "logging is on"
    for test_card in CARDS:
        for number in (test_card.number, normalise(test_card.number)):
            assert [place for place, text in written.items() if number in text] == []


def rows(bank: RunningBank) -> str:
    """Return all rows of the bank's tables as text."""
    engine = open_storage(bank.database_url)
    with reading(engine) as tx:
        everything = [str(row) for table in metadata.tables.values() for row in tx.execute(table.select())]
    engine.dispose()
    assert len(everything) > 10
    return "\n".join(everything)
