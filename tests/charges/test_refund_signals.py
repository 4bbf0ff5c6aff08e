"""`flask refund` is interrupted at each of its steps, and then repeated with its key and without.

A step is a statement or COMMIT on the database, or a request to the bank. The signal comes before the step. Only the
moment of the signal is chosen by a hook; the command, its signal handlers, the database and the bank are real.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import httpx
import pytest
from flask import Flask
from sqlalchemy import event

from app import cli
from app.charges import protocol
from app.charges.protocol import ChargeSnapshot
from app.database import db
from tests.factories import order, purchase
from tests.recovery import recover_and_audit
from tests.shops import Shop

pytestmark = pytest.mark.slow

REFUNDED, REFUSED, UNKNOWN = 0, 1, 3
"""Exit codes."""
STEPS = 8
"""Steps of the command at least, from its claim to its last COMMIT."""


@pytest.fixture
def charge(app: Flask, shop: Shop) -> ChargeSnapshot:
    return protocol.pay(purchase(order({"morning-mug": 99})), shop.gateway, 3.0)


class Countdown:
    """Sends a signal to this process before step number `left` inside `armed`."""

    def __init__(self) -> None:
        self.left = 0

    def step(self, *_: object) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)


class Network(httpx.WSGITransport):
    """The network to the bank. Each request is a step, and so is its answer."""

    countdown: Countdown

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.countdown.step()
        response = super().handle_request(request)
        self.countdown.step()
        return response


@contextmanager
def steps_counted(shop: Shop) -> Iterator[Countdown]:
    """Yield a countdown of the steps of this shop."""
    countdown = Countdown()
    network = Network(app=shop.bank)
    network.countdown = countdown
    shop.use_transport(network)
    names = ("before_cursor_execute", "commit")
    with shop.app.app_context():
        engine = db.engine
    for name in names:
        event.listen(engine, name, countdown.step)
    yield countdown
    for name in names:
        event.remove(engine, name, countdown.step)


def run(shop: Shop, charge: ChargeSnapshot, *options: str) -> tuple[int, str]:
    """Refund €1. Return the exit code and the key that the command printed first."""
    result = shop.app.test_cli_runner().invoke(args=["refund", charge.receipt_id, "--amount=1", *options])
    lines = [line for line in result.output.splitlines() if not line.startswith("{")]
    return result.exit_code, lines[0].removeprefix("key: ")


def interrupted(shop: Shop, charge: ChargeSnapshot, countdown: Countdown) -> Iterator[str]:
    """Interrupt a refund before its first step, then another one before its second, and so on. Yield each key."""
    real = cli._interruptible
    for step in range(1, 100):

        @contextmanager
        def armed(step: int = step) -> Iterator[None]:
            with real():
                countdown.left = step
                yield
                countdown.left = 0

        with patch.object(cli, "_interruptible", armed):
            code, key = run(shop, charge)
        if code == REFUNDED:
            return
        assert code == UNKNOWN, f"interrupted before step {step}"
        countdown.left = 0
        db.engine.dispose()  # The process has ended.
        yield key
    raise AssertionError("the command has no end")


def test_repeated_with_its_key_it_refunds_once(shop: Shop, charge: ChargeSnapshot) -> None:
    with steps_counted(shop) as countdown:
        keys = []
        for key in interrupted(shop, charge, countdown):
            assert [run(shop, charge, f"--key={key}") for _ in range(2)] == [(REFUNDED, key)] * 2
            keys.append(key)
    assert len(keys) >= STEPS
    recover_and_audit(shop)
    refunded = [entry.key for entry in shop.statement() if entry.kind == "refund"]
    assert len(refunded) == len(keys) + 1, "and the one that was not interrupted"
    assert set(keys) < set(refunded)


def test_repeated_without_its_key_it_is_refused_while_it_is_open(shop: Shop, charge: ChargeSnapshot) -> None:
    with steps_counted(shop) as countdown:
        codes = []
        for _key in interrupted(shop, charge, countdown):
            is_open = bool(shop.rows("SELECT 1 FROM refund WHERE status IN ('processing', 'in_doubt')"))
            code, _ = run(shop, charge)
            assert code == (REFUSED if is_open else REFUNDED)
            codes.append(code)
            recover_and_audit(shop)
    assert len(codes) >= STEPS
    assert {REFUSED, REFUNDED} == set(codes)
