"""The shop's client against servers that lie, drip, break and vanish: definite only where the answer is explicit."""

import json
import socket
import time
from typing import Any

import pytest

from app.gateways.base import Answer, NotSent, Outcome, Unknown
from app.gateways.sandbox.client import LARGEST_ANSWER, SandboxGateway
from tests.gateways.bank import card, free_port, payment, refund_request
from tests.gateways.servers import Serve, always, ask_all, read_request, response, says, server


def test_it_is_the_gateway_that_the_protocol_knows() -> None:
    gateway = SandboxGateway("http://127.0.0.1:8010")
    assert (gateway.name, gateway.takes_cards) == ("sandbox", True)
    assert (gateway.account, gateway.page_origin) == ("sandbox", "http://127.0.0.1:8010")


def test_a_refused_connection_is_not_sent() -> None:
    gateway = SandboxGateway(f"http://127.0.0.1:{free_port()}")
    for ask in ask_all(gateway, payment()):
        with pytest.raises(NotSent):
            ask()


def test_a_name_that_nobody_has_is_not_sent() -> None:
    with pytest.raises(NotSent):
        SandboxGateway("http://bank.invalid:8010").charge(payment(), card(), 5)


def test_a_connection_that_never_opens_is_not_sent() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        filling = [socket.socket() for _ in range(3)]
        for waiting in filling:
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        before = time.monotonic()
        with pytest.raises(NotSent):
            SandboxGateway(f"http://127.0.0.1:{listener.getsockname()[1]}").charge(payment(), card(), 0.5)
        assert time.monotonic() - before < 60, "the operating system itself waits for minutes"
        for waiting in filling:
            waiting.close()


def silence(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def drip_headers(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X-A: b\r\n")
        time.sleep(0.1)


def drip_body(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        time.sleep(0.1)


def drip_continues(connection: socket.socket) -> None:
    read_request(connection)
    while True:
        connection.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("serve", [silence, drip_headers, drip_body, drip_continues])
def test_no_manner_of_answering_outlasts_the_deadline(serve: Serve) -> None:
    with server(serve) as gateway:
        for ask in ask_all(gateway, payment(), timeout=0.6)[:-1]:
            before = time.monotonic()
            with pytest.raises(Unknown) as unknown:
                ask()
            assert time.monotonic() - before > 0.5  # And it came back: these servers never stop.
            assert unknown.value.reason == "the bank did not answer in time"


def hang_up(connection: socket.socket) -> None:
    read_request(connection)


def reset(connection: socket.socket) -> None:
    read_request(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def cut_short(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{"key": ')


def hang_up_unread(connection: socket.socket) -> None:
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
    [hang_up, reset, cut_short, hang_up_unread, *GARBAGE.values()],
    ids=["hang up", "reset", "cut short", "unread", *GARBAGE],
)
def test_what_is_no_answer_is_unknown(serve: Serve) -> None:
    with server(serve) as gateway:
        for ask in ask_all(gateway, payment())[:-1]:
            with pytest.raises(Unknown):
                ask()


def test_a_right_answer_is_definite() -> None:
    asked = payment()
    with server(says(asked)) as gateway:
        assert gateway.charge(asked, card(), 5) == gateway.lookup(asked, 5) == Answer(Outcome.SUCCEEDED)


def test_an_answer_that_is_too_large_is_unknown_though_right_otherwise() -> None:
    asked = payment()
    for padding, fits in ((LARGEST_ANSWER // 2, True), (LARGEST_ANSWER, False)):
        with server(says(asked, padding="x" * padding)) as gateway:
            if fits:
                assert gateway.charge(asked, card(), 5) == Answer(Outcome.SUCCEEDED)
            else:
                with pytest.raises(Unknown):
                    gateway.charge(asked, card(), 5)


LIES = {
    "other key": {"key": "other"},
    "other amount": {"amount": 2401},
    "amount as text": {"amount": "2400"},
    "amount as float": {"amount": 2400.0},
    "no amount": {"amount": None},
    "other currency": {"currency": "USD"},
    "no outcome": {"status": None},
    "unheard-of outcome": {"status": "processing"},
    "outcome as list": {"status": []},
    "canceled for another amount": {"status": "canceled", "amount": 1},
    "declined for another amount": {"status": "declined", "amount": 1},
    "no page": {"status": "requires_action"},
    "page elsewhere": {"status": "requires_action", "action_url": "http://127.0.0.1.elsewhere.example/"},
    "page as script": {"status": "requires_action", "action_url": "javascript:alert(1)"},
}


@pytest.mark.parametrize("lie", list(LIES.values()), ids=list(LIES))
def test_an_answer_for_something_else_is_unknown(lie: dict[str, Any]) -> None:
    asked = payment()
    with server(says(asked, **lie)) as gateway:
        for ask in ask_all(gateway, asked)[:3]:
            with pytest.raises(Unknown) as unknown:
                ask()
            assert unknown.value.reason.startswith("the bank "), "the answer itself was readable"


@pytest.mark.parametrize("status", [201, 202, 204, 400, 401, 404, 409, 422, 429, 500, 502, 503, 504])
def test_any_other_status_is_unknown_even_with_a_right_body(status: int) -> None:
    asked = payment()
    with server(says(asked, status)) as gateway:
        for ask in ask_all(gateway, asked)[:-1]:
            with pytest.raises(Unknown) as unknown:
                ask()
            if status != 204:
                assert unknown.value.again == (status >= 500 or status == 409)


def test_never_heard_of_is_only_what_the_bank_itself_says_of_this_key() -> None:
    asked = payment()
    back = refund_request(asked, 1)
    for body, heard in (
        ({"error": "unknown_key", "key": asked.key}, True),
        ({"error": "unknown_key", "key": "x"}, False),
    ):
        with server(always(response(json.dumps(body).encode(), 404))) as gateway:
            if heard:
                assert gateway.lookup(asked, 5) is None
            else:
                with pytest.raises(Unknown):
                    gateway.lookup(asked, 5)
            with pytest.raises(Unknown):
                gateway.lookup_refund(back, 5)
            with pytest.raises(Unknown):
                gateway.cancel(asked, 5)


def test_a_refund_answered_for_another_charge_is_unknown() -> None:
    asked = payment()
    back = refund_request(asked, 10)
    right = {"key": back.key, "charge": asked.key, "status": "succeeded", "amount": 10, "currency": "EUR"}
    with server(always(response(json.dumps(right).encode()))) as gateway:
        assert gateway.refund(back, 5) == Answer(Outcome.SUCCEEDED)
    for lie in ({"charge": "x"}, {"amount": 11}, {"key": "x"}, {"status": "canceled"}, {"currency": "USD"}):
        with server(always(response(json.dumps({**right, **lie}).encode()))) as gateway, pytest.raises(Unknown):
            gateway.refund(back, 5)
