"""The client of the sandbox bank against servers that fail: only an explicit, correct answer is definite."""

import json
import socket
import time
from typing import Any

import pytest

from app.gateways.base import Answer, NotSent, Outcome, Unknown
from app.gateways.sandbox.client import LARGEST_ANSWER, SandboxGateway
from tests.factories import API_KEY
from tests.gateways.bank import card, free_port, new_payment, new_refund
from tests.gateways.servers import Serve, always, charge_answer, questions, read_request, response, server


def test_attributes_of_the_gateway() -> None:
    gateway = SandboxGateway("http://127.0.0.1:8010", API_KEY)
    assert (gateway.name, gateway.takes_cards) == ("sandbox", True)
    assert gateway.page_origin == "http://127.0.0.1:8010"
    assert gateway.account == SandboxGateway("http://bank.example", API_KEY).account, "a bank may move"
    assert gateway.account != SandboxGateway("http://127.0.0.1:8010", "k" * 32).account
    assert API_KEY not in gateway.account


def test_a_refused_connection_is_not_sent() -> None:
    gateway = SandboxGateway(f"http://127.0.0.1:{free_port()}", API_KEY)
    for ask in questions(gateway, new_payment()):
        with pytest.raises(NotSent):
            ask()


def test_an_unknown_host_name_is_not_sent() -> None:
    with pytest.raises(NotSent):
        SandboxGateway("http://bank.invalid:8010", API_KEY).charge(new_payment(), card(), 5)


def test_a_connection_that_never_opens_is_not_sent() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        before = time.monotonic()
        with pytest.raises(NotSent):
            SandboxGateway(f"http://127.0.0.1:{listener.getsockname()[1]}", API_KEY).charge(new_payment(), card(), 0.5)
        assert time.monotonic() - before < 60, "the operating system would wait for minutes"
        for filler in fillers:
            filler.close()


def stay_silent(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def endless_headers(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X-A: b\r\n")
        time.sleep(0.1)


def endless_body(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        time.sleep(0.1)


def endless_interim_responses(connection: socket.socket) -> None:
    read_request(connection)
    while True:
        connection.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("serve", [stay_silent, endless_headers, endless_body, endless_interim_responses])
def test_no_server_can_exceed_the_deadline(serve: Serve) -> None:
    with server(serve) as gateway:
        for ask in questions(gateway, new_payment(), timeout=0.6)[:-1]:
            before = time.monotonic()
            with pytest.raises(Unknown) as unknown:
                ask()
            assert time.monotonic() - before > 0.5  # These servers never stop, so only the deadline ended the question.
            assert unknown.value.reason == "the bank did not answer in time"


def close(connection: socket.socket) -> None:
    read_request(connection)


def reset(connection: socket.socket) -> None:
    read_request(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def cut_short(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{"key": ')


def close_unread(connection: socket.socket) -> None:
    connection.recv(1)


GARBAGE = {
    "no HTTP": always(b"hello\r\n\r\n"),
    "no JSON": always(response(b"<html>OK</html>")),
    "empty": always(response(b"")),
    "a list": always(response(b"[]")),
    "binary": always(response(bytes(range(256)))),
    "deep": always(response(b"[" * 60_000)),
    "endless": always(b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 10_000_000),
    "long number": always(response(b'{"amount": ' + b"9" * 10_000 + b"}")),
    "redirect": always(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 2\r\n\r\n{}"),
}


@pytest.mark.parametrize(
    "serve",
    [close, reset, cut_short, close_unread, *GARBAGE.values()],
    ids=["close", "reset", "cut short", "close unread", *GARBAGE],
)
def test_an_unreadable_answer_is_unknown(serve: Serve) -> None:
    with server(serve) as gateway:
        for ask in questions(gateway, new_payment())[:-1]:
            with pytest.raises(Unknown):
                ask()


def test_a_correct_answer_is_definite() -> None:
    payment = new_payment()
    with server(charge_answer(payment)) as gateway:
        assert gateway.charge(payment, card(), 5) == gateway.lookup(payment, 5) == Answer(Outcome.SUCCEEDED)


def test_a_correct_answer_that_is_too_large_is_unknown() -> None:
    payment = new_payment()
    for padding, fits in ((LARGEST_ANSWER // 2, True), (LARGEST_ANSWER, False)):
        with server(charge_answer(payment, padding="x" * padding)) as gateway:
            if fits:
                assert gateway.charge(payment, card(), 5) == Answer(Outcome.SUCCEEDED)
            else:
                with pytest.raises(Unknown):
                    gateway.charge(payment, card(), 5)


WRONG_ANSWERS = {
    "other key": {"key": "other"},
    "other amount": {"amount": 2401},
    "amount as text": {"amount": "2400"},
    "amount as float": {"amount": 2400.0},
    "no amount": {"amount": None},
    "other currency": {"currency": "USD"},
    "no outcome": {"status": None},
    "unknown outcome": {"status": "processing"},
    "outcome as list": {"status": []},
    "canceled for another amount": {"status": "canceled", "amount": 1},
    "declined for another amount": {"status": "declined", "amount": 1},
    "no page": {"status": "requires_action"},
    "page elsewhere": {"status": "requires_action", "action_url": "http://127.0.0.1.elsewhere.example/"},
    "page as script": {"status": "requires_action", "action_url": "javascript:alert(1)"},
}


@pytest.mark.parametrize("changes", list(WRONG_ANSWERS.values()), ids=list(WRONG_ANSWERS))
def test_an_answer_with_other_values_is_unknown(changes: dict[str, Any]) -> None:
    payment = new_payment()
    is_over = changes.get("status") in ("canceled", "declined")  # Then a cancel disregards the amount.
    with server(charge_answer(payment, **changes)) as gateway:
        for ask in questions(gateway, payment)[: 2 if is_over else 3]:
            with pytest.raises(Unknown) as unknown:
                ask()
            assert unknown.value.reason.startswith("the bank "), "the answer was readable"


@pytest.mark.parametrize("status", [201, 202, 204, 400, 401, 404, 409, 422, 429, 500, 502, 503, 504])
def test_any_other_status_is_unknown_even_with_a_correct_body(status: int) -> None:
    payment = new_payment()
    with server(charge_answer(payment, status)) as gateway:
        for ask in questions(gateway, payment)[:-1]:
            with pytest.raises(Unknown) as unknown:
                ask()
            if status != 204:
                assert unknown.value.again == (status >= 500 or status == 409)


def test_only_the_bank_can_say_that_it_does_not_know_this_key() -> None:
    payment = new_payment()
    refund = new_refund(payment, 1)
    for body, is_about_this_key in (
        ({"error": "unknown_key", "key": payment.key}, True),
        ({"error": "unknown_key", "key": "x"}, False),
    ):
        with server(always(response(json.dumps(body).encode(), 404))) as gateway:
            if is_about_this_key:
                assert gateway.lookup(payment, 5) is None
            else:
                with pytest.raises(Unknown):
                    gateway.lookup(payment, 5)
            with pytest.raises(Unknown):
                gateway.lookup_refund(refund, 5)
            with pytest.raises(Unknown):
                gateway.cancel(payment, 5)


def test_a_refund_answer_with_other_values_is_unknown() -> None:
    payment = new_payment()
    refund = new_refund(payment, 10)
    correct = {"key": refund.key, "charge": payment.key, "status": "succeeded", "amount": 10, "currency": "EUR"}
    with server(always(response(json.dumps(correct).encode()))) as gateway:
        assert gateway.refund(refund, 5) == Answer(Outcome.SUCCEEDED)
    for change in ({"charge": "x"}, {"amount": 11}, {"key": "x"}, {"status": "canceled"}, {"currency": "USD"}):
        with server(always(response(json.dumps({**correct, **change}).encode()))) as gateway, pytest.raises(Unknown):
            gateway.refund(refund, 5)
