"""`flask recover --watch` with many, slow and permanently failing rows: every row gets its turn.

The command, its threads, the database and the sandbox bank are real. A socket that never answers replaces the mail
server, and one charge makes the gateway's client fail with an exception that nobody expects.
"""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from threading import Thread
from time import sleep
from typing import Any

import pytest

from app.charges import protocol, refunds
from app.charges.tokens import new_key
from app.gateways.base import Answer, Outcome, Payment
from tests.charges.gateways import LOST, ScriptedGateway
from tests.factories import order, purchase
from tests.gateways.bank import until
from tests.recovery import make_all_due
from tests.shops import Shop

pytestmark = pytest.mark.slow

ABANDONED = 110
"""Confirmations that nobody gave: more than one pass takes."""
WAITS = Answer(Outcome.REQUIRES_ACTION, action_url="http://bank/")


class SlowAndFailing:
    """The shop's gateway. It is slow for the keys in `slow`, and its client fails for the key `failing`."""

    def __init__(self, shop: Shop, slow: set[str], failing: str) -> None:
        self.inner, self.slow, self.failing = shop.gateway, slow, failing

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def lookup(self, payment: Payment, timeout: float) -> Answer | None:
        if payment.key == self.failing:
            raise ZeroDivisionError
        if payment.key in self.slow:
            sleep(0.01)
            return WAITS
        return self.inner.lookup(payment, timeout)


def pay(shop: Shop, gateway: ScriptedGateway) -> protocol.ChargeSnapshot:
    gateway.name, gateway.account = shop.gateway.name, shop.gateway.account
    return protocol.pay(purchase(order()), gateway, 0.1)


def prepare(shop: Shop) -> SlowAndFailing:
    """Leave work of every kind, the rows that can't be finished first. Return the gateway that makes them so."""
    failing = pay(shop, ScriptedGateway(LOST))
    slow = {str(pay(shop, ScriptedGateway(WAITS)).key) for _ in range(ABANDONED)}
    paid = protocol.pay(purchase(order()), shop.gateway, 3.0)
    refunds.claim(paid, 100, new_key(), 3.0)
    for _ in range(3):
        pay(shop, ScriptedGateway(LOST))
    make_all_due(shop)
    return SlowAndFailing(shop, slow, str(failing.key))


def test_every_row_gets_its_turn(make_shop: Callable[..., Shop], handlers: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mail_server:
        shop = make_shop(smtp_url=f"smtp://127.0.0.1:{mail_server.getsockname()[1]}")
        with shop.app.app_context():
            shop.gateways.use(prepare(shop))  # type: ignore[arg-type]

        def finished() -> bool:
            statuses = shop.charges()
            refunded = shop.rows("SELECT status FROM refund") == [("succeeded",)]
            return refunded and (statuses["in_doubt"], statuses["canceled"]) == (1, 3)

        def stop_when_finished() -> None:
            try:
                until(finished, 60)
                seen.append(shop.rows("SELECT sent_at FROM outbox_email"))
            finally:
                mail_server.close()
                os.kill(os.getpid(), signal.SIGTERM)

        seen: list[object] = []
        Thread(target=stop_when_finished, daemon=True).start()
        with shop.app.app_context():
            result = shop.app.test_cli_runner().invoke(args=["recover", "--watch"])
    assert result.exit_code == 0, result.output
    assert seen == [[(None,)]], "the mail server did not answer meanwhile"
    assert shop.charges()["requires_action"] == ABANDONED


@pytest.fixture
def handlers() -> Iterator[None]:
    """Put the signal handlers back that the command replaces. A signal after its end is ignored."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
