"""Recovery finds out what happened to every open charge. Any number of workers may run at the same time."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Flask

from app.charges import protocol, recovery
from app.charges.rows import ChargeSnapshot
from app.charges.states import CANCELED, DECLINED, IN_DOUBT, REQUIRES_ACTION, SUCCEEDED
from app.database import db
from app.gateways.base import Answer, Card, Gateway, Gateways, NotSent, Outcome, Payment, Unknown
from app.gateways.sandbox.cards import CARDS, Behaviour
from app.leases import LONGEST
from tests.factories import ASKS_SHOPPER, MUG, order, purchase
from tests.gateways.bank import at_once
from tests.recovery import make_all_due, recover, recover_and_audit
from tests.shops import Shop

CARD = Card("4242424242424242", "12/49", "123")
LINK = "http://127.0.0.1:8000/receipts/1"


class WatchedGateway:
    """The sandbox gateway. It counts the questions and calls `before(method name, payment)` before each of them."""

    def __init__(self, shop: Shop, before: Callable[[str, Payment], None] | None = None) -> None:
        self.inner: Any = shop.gateway
        self.asked: Counter[tuple[str, str]] = Counter()
        self.before = before or (lambda name, payment: None)
        shop.gateways.use(self)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def _ask(self, name: str, payment: Payment, *rest: Any) -> Any:
        self.asked[name, payment.key] += 1
        self.before(name, payment)
        return getattr(self.inner, name)(payment, *rest)

    def charge(self, payment: Payment, card: Card | None, timeout: float) -> Answer:
        answer: Answer = self._ask("charge", payment, card, timeout)
        return answer

    def lookup(self, payment: Payment, timeout: float) -> Answer | None:
        answer: Answer | None = self._ask("lookup", payment, timeout)
        return answer

    def cancel(self, payment: Payment, timeout: float) -> Answer:
        answer: Answer = self._ask("cancel", payment, timeout)
        return answer


def abandoned(
    gateway: Gateway, goods: dict[str, int] | None = None, card: str = "4242 4242 4242 4242"
) -> ChargeSnapshot:
    """Return a charge whose process died right after the claim."""
    return protocol.claim(purchase(order(goods), card, receipt_url=LINK), gateway, 3.0)


def status(shop: Shop, charge: ChargeSnapshot) -> str:
    return str(shop.value("SELECT status FROM charge WHERE id = :id", id=charge.id))


def test_money_that_was_taken_is_recorded(app: Flask, shop: Shop) -> None:
    charge = abandoned(shop.gateway)
    shop.gateway.charge(charge.payment, CARD, 3.0)
    assert recover(shop) == 1
    assert status(shop, charge) == SUCCEEDED
    recover_and_audit(shop)


def test_a_key_unknown_to_the_bank_is_fenced_and_the_order_reopens(app: Flask, shop: Shop) -> None:
    before = shop.stock(MUG)
    charge = abandoned(shop.gateway, {MUG: 2})
    assert shop.stock(MUG) == before - 2
    recover(shop)
    assert shop.rows("SELECT status, reason FROM charge") == [(CANCELED, "fenced")]
    assert shop.value("SELECT state FROM orders WHERE id = :id", id=charge.order_id) == "open"
    assert shop.stock(MUG) == before
    late = shop.gateway.charge(charge.payment, CARD, 3.0)
    assert (late.outcome, shop.statement()) == (Outcome.CANCELED, [])
    recover_and_audit(shop)


def test_a_charge_that_its_request_may_still_ask_about_is_not_touched(app: Flask, shop: Shop) -> None:
    charge = abandoned(shop.gateway)
    watched = WatchedGateway(shop)
    assert recovery.run(shop.gateways, 3.0, 3600.0) == 0
    assert (status(shop, charge), watched.asked) == ("processing", Counter())


@pytest.mark.parametrize("doubt", [Unknown("the bank did not answer in time"), NotSent("no connection")])
def test_a_charge_without_an_answer_is_postponed_for_longer_each_time(app: Flask, shop: Shop, doubt: Exception) -> None:
    def no_answer(name: str, payment: Payment) -> None:
        raise doubt

    charge = abandoned(shop.gateway)
    WatchedGateway(shop, no_answer)
    waits = []
    for times_asked in range(1, 11):
        recover(shop)
        [row] = shop.rows("SELECT status, note, times_asked FROM charge")
        assert row == (IN_DOUBT, str(doubt), times_asked)
        with shop.app.app_context():
            ask_at = db.session.execute(db.select(recovery.charges.c.ask_at)).scalar_one()
        waits.append((ask_at - datetime.now(UTC)).total_seconds())
        assert 0.4 * min(LONGEST, 2**times_asked) < waits[-1] <= min(LONGEST, 2**times_asked)
    assert waits[-1] > 10 > waits[0]
    shop.gateways.use(shop.gateway)
    recover(shop)
    assert status(shop, charge) == CANCELED
    recover_and_audit(shop)


def test_a_charge_whose_gateway_is_not_configured_is_noted(app: Flask, shop: Shop) -> None:
    abandoned(shop.gateway)
    shop.gateways.use_all(Gateways(shop.gateway, ()))
    recover(shop)
    assert shop.rows("SELECT status, note FROM charge") == [
        (IN_DOUBT, "the gateway and account of the charge are not configured")
    ]
    shop.gateways.use(shop.gateway)
    recover_and_audit(shop)


def test_no_connection_is_held_while_the_bank_is_asked(app: Flask, shop: Shop) -> None:
    held = []

    def look(name: str, payment: Payment) -> None:
        held.append((name, db.engine.pool.checkedout()))  # type: ignore[attr-defined]

    abandoned(shop.gateway)
    WatchedGateway(shop, look)
    recover(shop)
    assert held == [("lookup", 0), ("cancel", 0)]


@pytest.mark.slow
def test_many_workers_settle_each_charge_once(app: Flask, shop: Shop) -> None:
    charges = [abandoned(shop.gateway) for _ in range(24)]
    for charge in charges[::2]:
        shop.gateway.charge(charge.payment, CARD, 3.0)
    make_all_due(shop)
    watched = WatchedGateway(shop)

    def worker() -> int:
        with shop.app.app_context():
            return recovery.run(shop.gateways, 3.0, 3600.0)

    processed = at_once(*[worker] * 5)
    assert sum(processed) == 24
    assert {count for (name, _), count in watched.asked.items() if name == "lookup"} == {1}
    assert shop.charges() == {SUCCEEDED: 12, CANCELED: 12}
    assert shop.value("SELECT count(*) FROM ledger_entry") == 24
    recover_and_audit(shop)


@pytest.fixture
def paused_worker(
    app: Flask, shop: Shop
) -> Iterator[tuple[ChargeSnapshot, threading.Event, threading.Thread, list[int]]]:
    """Start a worker that leases a charge and waits in its question. Return (charge, go_on, worker, processed)."""
    charge = abandoned(shop.gateway)
    shop.gateway.charge(charge.payment, CARD, 3.0)
    make_all_due(shop)
    asking, go_on, processed = threading.Event(), threading.Event(), list[int]()

    def wait(name: str, payment: Payment) -> None:
        if threading.current_thread() is worker:
            asking.set()
            go_on.wait(30)

    def work() -> None:
        with shop.app.app_context():
            processed.append(recovery.run(shop.gateways, 3.0, 3600.0))

    worker = threading.Thread(target=work)
    WatchedGateway(shop, wait)
    worker.start()
    assert asking.wait(30)
    yield charge, go_on, worker, processed
    go_on.set()
    worker.join(30)


def test_a_leased_charge_is_not_taken_by_another_worker(app: Flask, shop: Shop, paused_worker: Any) -> None:
    charge, go_on, worker, processed = paused_worker
    assert recovery.run(shop.gateways, 3.0, 3600.0) == 0
    go_on.set()
    worker.join(30)
    assert (processed, status(shop, charge)) == ([1], SUCCEEDED)


def test_a_worker_whose_lease_has_run_out_does_no_harm(app: Flask, shop: Shop, paused_worker: Any) -> None:
    charge, go_on, worker, processed = paused_worker
    assert recover(shop) == 1
    assert status(shop, charge) == SUCCEEDED
    go_on.set()
    worker.join(30)
    assert processed == [1]
    assert shop.value("SELECT count(*) FROM ledger_entry") == 2
    recover_and_audit(shop)


def test_a_payment_between_lookup_and_fence_wins(app: Flask, shop: Shop) -> None:
    """`cancel` returns the outcome that won: here the payment, made after the lookup had found nothing."""
    charge = abandoned(shop.gateway)

    def pay_before_cancel(name: str, payment: Payment) -> None:
        if name == "cancel":
            shop.gateway.charge(charge.payment, CARD, 3.0)

    WatchedGateway(shop, pay_before_cancel)
    recover(shop)
    assert (status(shop, charge), len(shop.statement())) == (SUCCEEDED, 1)
    recover_and_audit(shop)


def confirm(shop: Shop, charge: ChargeSnapshot, decision: str = "confirm") -> int:
    """Send the shopper's decision on the bank's page. Return the status of the response."""
    url = shop.value("SELECT action_url FROM charge WHERE id = :id", id=charge.id)
    return int(shop.bank.test_client().post(url, data={"decision": decision}).status_code)


def waiting(shop: Shop) -> ChargeSnapshot:
    """Return a charge that waits until the shopper confirms it at the bank."""
    charge = protocol.pay(purchase(order(), ASKS_SHOPPER, receipt_url=LINK), shop.gateway, 3.0)
    assert charge.status is REQUIRES_ACTION
    return charge


def test_a_shopper_who_confirmed_and_closed_the_tab_has_paid(app: Flask, shop: Shop) -> None:
    charge = waiting(shop)
    recover(shop)
    assert shop.rows("SELECT status, note FROM charge") == [(REQUIRES_ACTION, "the shopper has not confirmed yet")]
    assert confirm(shop, charge) == 303
    recover(shop)
    assert status(shop, charge) == SUCCEEDED
    recover_and_audit(shop)


def test_a_shopper_who_refused_has_not_paid(app: Flask, shop: Shop) -> None:
    charge = waiting(shop)
    confirm(shop, charge, "refuse")
    recover(shop)
    assert shop.rows("SELECT status, reason FROM charge") == [(DECLINED, "refused_by_shopper")]
    recover_and_audit(shop)


def test_a_payment_not_confirmed_in_time_can_never_be_confirmed(app: Flask, shop: Shop) -> None:
    charge = waiting(shop)
    url = shop.value("SELECT action_url FROM charge")
    recover(shop, window=0.0)
    assert shop.rows("SELECT status, reason FROM charge") == [(CANCELED, "expired")]
    assert "cancelled" in shop.bank.test_client().post(url, data={"decision": "confirm"}, follow_redirects=True).text
    assert (status(shop, charge), shop.statement()) == (CANCELED, [])
    recover_and_audit(shop)


def test_a_confirmation_between_lookup_and_fence_wins(app: Flask, shop: Shop) -> None:
    """The shopper confirms after the lookup found no decision, and before `cancel` fences the key."""
    charge = waiting(shop)

    def confirm_before_cancel(name: str, payment: Payment) -> None:
        if name == "cancel":
            confirm(shop, charge)

    WatchedGateway(shop, confirm_before_cancel)
    recover(shop, window=0.0)
    assert status(shop, charge) == SUCCEEDED
    recover_and_audit(shop)


ENDS = {
    Behaviour.APPROVES: SUCCEEDED, Behaviour.DECLINES: DECLINED, Behaviour.INSUFFICIENT_FUNDS: DECLINED,
    Behaviour.ASKS_SHOPPER: REQUIRES_ACTION, Behaviour.SLOW: SUCCEEDED, Behaviour.LOSES_FIRST_ANSWER: SUCCEEDED,
    Behaviour.FAILS_AFTER_TAKING: SUCCEEDED, Behaviour.FAILS_BEFORE_TAKING: SUCCEEDED,
    Behaviour.SILENT_TAKES: SUCCEEDED, Behaviour.SILENT_TAKES_NOTHING: CANCELED,
}  # fmt: skip


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.behaviour.value)
def test_every_test_card_ends_as_the_bank_says(app: Flask, shop: Shop, card: Any) -> None:
    charge = protocol.pay(purchase(order(), card.number, receipt_url=LINK), shop.gateway, 1.0)
    silent = card.behaviour in (Behaviour.SILENT_TAKES, Behaviour.SILENT_TAKES_NOTHING)
    assert charge.status is (IN_DOUBT if silent else ENDS[card.behaviour])
    recover(shop)
    assert status(shop, charge) == ENDS[card.behaviour]
    assert len(shop.statement()) == (1 if ENDS[card.behaviour] is SUCCEEDED else 0)
    recover_and_audit(shop, waiting=1 if ENDS[card.behaviour] is REQUIRES_ACTION else 0)
