"""`flask refund`: if it is repeated or interrupted, it never refunds more than was meant and reports what is known."""

import os
import signal
import socket
import subprocess
import sys
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask
from sqlalchemy import update

from app.charges import protocol
from app.charges.models import Refund
from app.charges.protocol import ChargeSnapshot
from app.charges.refund_rows import ARRIVES_WITHIN
from app.database import from_now, transaction
from app.gateways.base import Answer, RefundRequest, Unknown
from tests.factories import API_KEY, order, purchase
from tests.gateways.bank import ROOT
from tests.recovery import recover, recover_and_audit
from tests.shops import Shop


@pytest.fixture
def charge(app: Flask, shop: Shop) -> ChargeSnapshot:
    return protocol.pay(purchase(order()), shop.gateway, 3.0)


def refund(shop: Shop, charge: ChargeSnapshot, *options: str) -> tuple[int, list[str]]:
    """Run the command. Return its exit code and the lines that are not log lines."""
    result = shop.app.test_cli_runner().invoke(args=["refund", charge.receipt_id, *options])
    return result.exit_code, [line for line in result.output.splitlines() if not line.startswith("{")]


def refunded(shop: Shop) -> list[int]:
    return [entry.amount for entry in shop.statement() if entry.kind == "refund"]


class Interrupted:
    """The shop's gateway. This process gets a signal after the refund is made and before the answer is read."""

    def __init__(self, shop: Shop, signal_number: int) -> None:
        self.inner, self.signal_number = shop.gateway, signal_number

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def refund(self, request: RefundRequest, timeout: float) -> Answer:
        answer = self.inner.refund(request, timeout)
        os.kill(os.getpid(), self.signal_number)
        return answer


class AnswerLost(Interrupted):
    """The shop's gateway. It makes the refund, but its answer is always lost."""

    def refund(self, request: RefundRequest, timeout: float) -> Answer:
        self.inner.refund(request, timeout)
        raise Unknown("the bank did not answer in time")


@pytest.mark.parametrize("amount", ["", " ", "0", "-1", "NaN", "Infinity", "1e99", "12,50"])
def test_an_invalid_amount_refunds_nothing(shop: Shop, charge: ChargeSnapshot, amount: str) -> None:
    code, lines = refund(shop, charge, f"--amount={amount}")
    assert (code, lines[-1].startswith("Error: nothing was refunded: ")) == (1, True)
    assert refunded(shop) == []


def withdraw(shop: Shop, charge: ChargeSnapshot, key: str) -> tuple[int, str]:
    code, lines = refund(shop, charge, "--withdraw", f"--key={key}")
    return code, lines[-1]


class NeverArrives(Interrupted):
    """The shop's gateway, but no request for a refund arrives."""

    def refund(self, request: RefundRequest, timeout: float) -> Answer:
        raise Unknown("the bank did not answer in time")


def test_withdrawing_sends_nothing_more_and_ends_the_refund_when_nothing_can_arrive(
    shop: Shop, charge: ChargeSnapshot
) -> None:
    shop.gateways.use(NeverArrives(shop, 0))  # type: ignore[arg-type]
    key = refund(shop, charge, "--amount=4")[1][0].removeprefix("key: ")
    shop.gateways.use(shop.gateway)
    assert withdraw(shop, charge, key) == (
        3, "It is not sent any more. If it has not arrived in 60 minutes, recovery withdraws it."
    )  # fmt: skip
    recover(shop)
    assert (refunded(shop), shop.value("SELECT status FROM refund")) == ([], "in_doubt")
    with transaction() as tx:
        tx.execute(update(Refund).values(send_until=from_now(-ARRIVES_WITHIN - 1)))
    recover_and_audit(shop)
    assert shop.rows("SELECT status, attention FROM refund") == [("withdrawn", None)]
    assert (refunded(shop), shop.value("SELECT refunded FROM charge")) == ([], 0)
    assert withdraw(shop, charge, key) == (0, "The refund is withdrawn.")


def test_withdrawing_a_refund_that_arrived_records_it(shop: Shop, charge: ChargeSnapshot) -> None:
    shop.gateways.use(AnswerLost(shop, 0))  # type: ignore[arg-type]
    key = refund(shop, charge, "--amount=4")[1][0].removeprefix("key: ")
    assert withdraw(shop, charge, key) == (1, "The refund is succeeded.")
    shop.gateways.use(shop.gateway)
    recover_and_audit(shop)
    assert refunded(shop) == [400]


def test_only_a_refund_of_this_payment_can_be_withdrawn(shop: Shop, charge: ChargeSnapshot) -> None:
    other = protocol.pay(purchase(order()), shop.gateway, 3.0)
    shop.gateways.use(NeverArrives(shop, 0))  # type: ignore[arg-type]
    key = refund(shop, other, "--amount=4")[1][0].removeprefix("key: ")
    before = shop.value("SELECT send_until FROM refund")
    for tried in (key, str(uuid4())):
        assert withdraw(shop, charge, tried) == (1, "Error: this payment has no refund with this key to withdraw")
    assert refund(shop, charge, "--withdraw") == (1, ["Error: --withdraw needs the --key that the refund printed"])
    assert shop.value("SELECT send_until FROM refund") == before
    shop.gateways.use(shop.gateway)
    recover_and_audit(shop)
    assert refunded(shop) == [400]


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_after_the_refund_is_reported_as_unknown(
    shop: Shop, charge: ChargeSnapshot, signal_number: int
) -> None:
    shop.gateways.use(Interrupted(shop, signal_number))  # type: ignore[arg-type]
    code, lines = refund(shop, charge, "--amount=4")
    assert (code, "it is not known whether that was refunded" in lines[-1]) == (3, True)
    shop.gateways.use(shop.gateway)
    key = lines[0].removeprefix("key: ")
    for _ in range(2):
        assert refund(shop, charge, "--amount=4", f"--key={key}") == (0, [f"key: {key}", "€4.00: succeeded"])
    recover_and_audit(shop)
    assert refunded(shop) == [400]


def test_a_key_belongs_to_one_amount(shop: Shop, charge: ChargeSnapshot) -> None:
    key = refund(shop, charge, "--amount=4")[1][0].removeprefix("key: ")
    code, lines = refund(shop, charge, "--amount=5", f"--key={key}")
    assert (code, lines[-1]) == (1, "Error: nothing was refunded: this key belongs to another refund or amount")
    assert refunded(shop) == [400]


def test_the_same_amount_while_a_refund_is_open_needs_the_option_again(shop: Shop, charge: ChargeSnapshot) -> None:
    shop.gateways.use(AnswerLost(shop, 0))  # type: ignore[arg-type]
    assert refund(shop, charge, "--amount=4")[0] == 3
    shop.gateways.use(shop.gateway)
    code, lines = refund(shop, charge, "--amount=4")
    assert (code, "a refund of the same amount is still open" in lines[-1]) == (1, True)
    assert refund(shop, charge, "--amount=5")[0] == 0, "another amount is another refund"
    assert refund(shop, charge, "--amount=4", "--again")[0] == 0
    recover_and_audit(shop)
    assert sorted(refunded(shop)) == [400, 400, 500]


@pytest.mark.slow
def test_a_killed_command_can_be_repeated(shop: Shop, charge: ChargeSnapshot) -> None:
    """A real process is killed while it waits for an answer. A socket that never answers replaces its bank."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        env = {
            "PATH": os.environ["PATH"], "SECRET_KEY": shop.settings().secret_key, "DATABASE_URL": shop.database_url,
            "SANDBOX_API_KEY": API_KEY,
            "SANDBOX_BANK_URL": f"http://127.0.0.1:{silent.getsockname()[1]}",
        }  # fmt: skip
        command = [sys.executable, "-m", "flask", "--app", "wsgi", "refund", charge.receipt_id, "--amount", "4"]
        first = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        silent.settimeout(60)
        with silent.accept()[0]:
            first.kill()
            first.wait()
    code, lines = refund(shop, charge, "--amount=4")
    assert (code, "a refund of the same amount is still open" in lines[-1]) == (1, True)
    recover_and_audit(shop)
    assert refunded(shop) == [400]
