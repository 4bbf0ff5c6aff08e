"""No row and no kind of work delays the rest of recovery."""

import json
from threading import Event, Thread

import pytest
from flask import Flask

from app.charges import protocol, recovery
from app.charges.states import IN_DOUBT, SUCCEEDED
from app.database import Unreachable
from app.gateways.base import Answer, Payment
from app.mail import outbox
from tests.charges.gateways import LOST, ScriptedGateway
from tests.factories import order, purchase, ready_to_pay
from tests.recovery import make_all_due
from tests.shops import Shop

WAIT = 60
"""Seconds after which a test that hangs fails."""


class FailingForKey:
    """The shop's gateway, whose client raises an unexpected error for one key."""

    def __init__(self, shop: Shop, key: str) -> None:
        self.inner, self.key = shop.gateway, key

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def lookup(self, payment: Payment, timeout: float) -> Answer | None:
        if payment.key == self.key:
            raise ZeroDivisionError
        return self.inner.lookup(payment, timeout)


def charge_in_doubt(shop: Shop) -> protocol.ChargeSnapshot:
    gateway = ScriptedGateway(LOST)
    gateway.name, gateway.account = shop.gateway.name, shop.gateway.account
    return protocol.pay(purchase(order()), gateway, 0.1)


def test_a_charge_that_makes_our_code_fail_does_not_stop_the_others(
    app: Flask, shop: Shop, capfd: pytest.CaptureFixture[str]
) -> None:
    charges = [charge_in_doubt(shop) for _ in range(3)]
    shop.gateways.use(FailingForKey(shop, str(charges[0].key)))  # type: ignore[arg-type]
    capfd.readouterr()
    for _ in range(3):
        make_all_due(shop)
        recovery.run(shop.gateways, 3.0, 3600.0)  # type: ignore[arg-type]
    assert shop.charges() == {IN_DOUBT: 1, "canceled": 2}
    assert shop.rows("SELECT note, attention FROM charge WHERE status = 'in_doubt'") == [
        ("our own code failed: ZeroDivisionError", "our own code failed: ZeroDivisionError")
    ]
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    failures = [line for line in lines if line["event"] == "charge_recovery_failed"]
    assert ["exception" in line for line in failures] == [True, False, False], "one traceback, not one per try"


def test_attention_is_cleared_when_the_charge_ends(app: Flask, shop: Shop) -> None:
    charge = charge_in_doubt(shop)
    shop.gateways.use(FailingForKey(shop, str(charge.key)))  # type: ignore[arg-type]
    recovery.run(shop.gateways, 3.0, 3600.0)  # type: ignore[arg-type]
    make_all_due(shop)
    recovery.run(shop.gateways, 3.0, 3600.0)  # type: ignore[arg-type]
    shop.gateways.use(shop.gateway)
    make_all_due(shop)
    recovery.run(shop.gateways, 3.0, 3600.0)  # type: ignore[arg-type]
    assert shop.rows("SELECT status, attention FROM charge") == [("canceled", None)]


def test_a_pass_is_bounded(app: Flask, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "MOST", 2)
    for _ in range(3):
        charge_in_doubt(shop)
    make_all_due(shop)
    assert [recovery.run_charges(shop.gateways, 3.0, 3600.0) for _ in range(2)] == [2, 1]  # type: ignore[arg-type]


def test_work_that_hangs_does_not_delay_other_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charges are recovered while the mail server does not answer."""
    monkeypatch.setattr(recovery, "PAUSE", 0.0)
    stop, mail_server_answers, recovered = Event(), Event(), Event()

    def emails() -> int:
        assert mail_server_answers.wait(WAIT)
        return 0

    def charges() -> int:
        if not mail_server_answers.is_set():
            recovered.set()
        return 0

    watcher = Thread(target=recovery.watch, args=({"emails": emails, "charges": charges}, stop), daemon=True)
    watcher.start()
    assert recovered.wait(WAIT), "no charge was recovered while sending e-mails hung"
    stop.set()
    mail_server_answers.set()
    watcher.join(WAIT)
    assert not watcher.is_alive()


def test_an_email_that_cannot_be_sent_is_given_up_and_stays_visible(shop: Shop) -> None:
    """Every exception counts as a failed try, not only those of the mail server."""
    assert ready_to_pay(shop.shopper()).submit().heading == "Paid: €24.00"

    def fail(_email: outbox.LeasedEmail) -> None:
        raise UnicodeError("no such address")

    with shop.app.app_context():
        for _ in range(outbox.TRIES):
            shop.execute("UPDATE outbox_email SET send_at = (SELECT created_at FROM charge)")
            assert outbox.run(fail) == 1
        shop.execute("UPDATE outbox_email SET send_at = (SELECT created_at FROM charge)")
        assert outbox.run(fail) == 0
    [(sent_at, gave_up_at, note)] = shop.rows("SELECT sent_at, gave_up_at, note FROM outbox_email")
    assert (sent_at, note) == (None, "UnicodeError: no such address")
    assert gave_up_at is not None
    assert shop.charges() == {SUCCEEDED: 1}


def test_recovery_continues_when_the_database_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "PAUSE", 0.0)
    stop, passes = Event(), []

    def one_pass() -> int:
        passes.append(len(passes))
        if len(passes) < 3:
            raise Unreachable("no connection")
        stop.set()
        return 0

    recovery.watch({"charges": one_pass}, stop)
    assert passes == [0, 1, 2]
