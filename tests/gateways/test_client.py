"""The shop's client against servers that lie, drip, break and vanish: definite only where the answer is explicit."""

import json
import logging
import os
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from app.gateways.base import Answer, Card, NotSent, Outcome, Payment, Unknown
from app.gateways.sandbox.bank import create_bank
from app.gateways.sandbox.bank.storage import metadata, open_storage, reading
from app.gateways.sandbox.cards import CARDS, normalise
from app.gateways.sandbox.client import LARGEST_ANSWER, SandboxGateway
from tests.gateways.bank import RunningBank, at_once, card, free_port, payment, repayment, running_bank

Serve = Callable[[socket.socket], None]


@contextmanager
def server(serve: Serve) -> Iterator[SandboxGateway]:
    """A server of any manners on a real socket; each connection is handed to `serve`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=handle, args=(connection,), daemon=True).start()

        def handle(connection: socket.socket) -> None:
            with connection:
                try:
                    serve(connection)
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        gateway = SandboxGateway(f"http://127.0.0.1:{listener.getsockname()[1]}")
        try:
            yield gateway
        finally:
            gateway.close()
            listener.shutdown(socket.SHUT_RDWR)


def read_request(connection: socket.socket) -> bytes:
    """One whole request; empty when the client has gone."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        if not part:
            return b""
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def response(body: bytes, status: int = 200) -> bytes:
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def always(answer: bytes) -> Serve:
    """Answers every request on a connection with the same bytes."""

    def serve(connection: socket.socket) -> None:
        while read_request(connection):
            connection.sendall(answer)

    return serve


def says(asked: Payment, code: int = 200, **changes: Any) -> Serve:
    """A right answer to the charge but for the changes."""
    fields = {"key": asked.key, "status": "succeeded", "amount": asked.amount, "currency": asked.currency}
    return always(response(json.dumps({**fields, **changes}).encode(), code))


def ask_all(gateway: SandboxGateway, asked: Payment, timeout: float = 5) -> list[Callable[[], Any]]:
    """Every question there is."""
    back = repayment(asked, asked.amount)
    return [
        lambda: gateway.charge(asked, card(), timeout),
        lambda: gateway.lookup(asked, timeout),
        lambda: gateway.cancel(asked, timeout),
        lambda: gateway.refund(back, timeout),
        lambda: gateway.lookup_refund(back, timeout),
        lambda: list(gateway.statement()),
    ]


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
        assert time.monotonic() - before < 2
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
            assert 0.5 < time.monotonic() - before < 1.5
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
    back = repayment(asked, 1)
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
    back = repayment(asked, 10)
    right = {"key": back.key, "charge": asked.key, "status": "succeeded", "amount": 10, "currency": "EUR"}
    with server(always(response(json.dumps(right).encode()))) as gateway:
        assert gateway.refund(back, 5) == Answer(Outcome.SUCCEEDED)
    for lie in ({"charge": "x"}, {"amount": 11}, {"key": "x"}, {"status": "canceled"}, {"currency": "USD"}):
        with server(always(response(json.dumps({**right, **lie}).encode()))) as gateway, pytest.raises(Unknown):
            gateway.refund(back, 5)


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
