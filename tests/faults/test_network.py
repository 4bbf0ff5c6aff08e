"""The network between shop and bank delays, cuts, holds back and duplicates requests; the bank dies and restarts."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest
from flask import Flask

from app.charges import protocol
from app.charges.states import CANCELED, IN_DOUBT, PENDING, SUCCEEDED
from app.gateways.base import Outcome
from app.gateways.sandbox.client import SandboxGateway
from tests.factories import API_KEY, checkout_form, order, purchase, ready_to_pay
from tests.faults import network
from tests.faults.conftest import ENOUGH_STOCK
from tests.faults.network import BankProxy, bank_proxy
from tests.faults.rounds import TIMES, report
from tests.gateways.bank import RunningBank, at_once, running_bank
from tests.recovery import recover, recover_and_audit
from tests.shops import Shop

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180 + 60 * TIMES)]

ROUNDS = 3 * TIMES
AT_ONCE = 8
FAULTS = [
    network.FORWARD, network.DELAY, network.DUPLICATE, network.CUT_BEFORE, network.CUT_HALF, network.CUT_AFTER,
    network.CUT_ANSWER,
]  # fmt: skip


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBank]:
    """Yield one bank for all tests of this module. A test that kills it must start it again."""
    folder = tmp_path_factory.mktemp("bank")
    with running_bank(f"sqlite:///{folder}/running/bank.sqlite", folder) as bank:
        yield bank


@pytest.fixture
def proxy(bank: RunningBank) -> Iterator[BankProxy]:
    with bank_proxy(bank.url) as proxy:
        yield proxy


@pytest.fixture
def shop(make_shop: Callable[..., Shop], proxy: BankProxy) -> Shop:
    """Return a shop that reaches its bank only through the proxy."""
    shop = make_shop(gateway_deadline=1.5)
    shop.execute(ENOUGH_STOCK)
    shop.gateway = SandboxGateway(proxy.url, API_KEY, shop="Test shop")
    shop.gateways.use(shop.gateway)
    return shop


def hold_charges(request: str) -> str:
    return network.HOLD if request == "POST /v1/charges" else network.FORWARD


def test_a_request_held_back_in_the_network_takes_nothing_once_its_key_is_fenced(
    shop: Shop, proxy: BankProxy, bank: RunningBank
) -> None:
    """Recovery fences the key and the shopper pays with another form. Then the first request arrives at the bank."""
    shopper = shop.shopper()
    form = ready_to_pay(shopper)
    proxy.rule = hold_charges
    receipt = form.submit()
    assert receipt.heading == "Your payment is still being confirmed"
    assert shop.charges() == {IN_DOUBT: 1}

    recover(shop)
    assert receipt.reload().heading == "Nothing was charged"
    proxy.rule = lambda request: network.FORWARD
    assert checkout_form(shopper).submit().heading == "Paid: €24.00"

    proxy.release()
    assert proxy.arrived.acquire(timeout=30)
    assert receipt.reload().heading == "Nothing was charged"
    assert times_taken(shop) == 1
    recover_and_audit(shop)


def times_taken(shop: Shop) -> int:
    """Return how often the bank took money under keys of this shop."""
    ours = {str(UUID(str(key))) for (key,) in shop.rows("SELECT key FROM charge")}
    return sum(entry.key in ours for entry in shop.gateway.statement())


def test_a_request_that_arrives_before_the_fence_is_found(app: Flask, shop: Shop, proxy: BankProxy) -> None:
    proxy.rule = hold_charges
    charge = protocol.pay(purchase(order()), shop.gateway, 0.5)
    assert charge.status is IN_DOUBT
    proxy.release()
    assert proxy.arrived.acquire(timeout=30)
    recover(shop)
    assert shop.charges() == {SUCCEEDED: 1}
    recover_and_audit(shop)


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_in_the_first_request_to_the_bank(app: Flask, shop: Shop, proxy: BankProxy, fault: str) -> None:
    """The bank is asked again under the same key, so the outcome is known within the shopper's request."""
    first = iter([fault])
    proxy.rule = lambda request: next(first, network.FORWARD)
    charge = protocol.pay(purchase(order()), shop.gateway, 3.0)
    assert (charge.status, proxy.counts[fault] > 0) == (SUCCEEDED, True)
    assert times_taken(shop) == 1
    recover_and_audit(shop)


def test_a_connection_refused_after_a_lost_answer_proves_nothing(
    app: Flask, shop: Shop, proxy: BankProxy, bank: RunningBank
) -> None:
    """The first request took the money. The refused second one does not prove that nothing was sent."""
    proxy.rule = lambda request: network.CUT_AND_REFUSE
    charge = protocol.pay(purchase(order()), shop.gateway, 1.0)
    assert charge.status is IN_DOUBT
    assert shop.rows("SELECT note FROM charge") == [("the gateway could not be reached again",)]
    shop.gateway = SandboxGateway(bank.url, API_KEY, shop="Test shop")
    shop.gateways.use(shop.gateway)
    recover_and_audit(shop)
    assert (shop.charges(), times_taken(shop)) == ({SUCCEEDED: 1}, 1)


def test_random_faults_in_every_request(app: Flask, shop: Shop, proxy: BankProxy, engine_name: str) -> None:
    """Faults hit charges, lookups and fences of simultaneous payments. A final status that was shown never changes."""
    rng, shown = random.Random(TIMES), {}
    for _ in range(ROUNDS):
        proxy.rule = lambda request: rng.choice(FAULTS)
        purchases = [purchase(order()) for _ in range(AT_ONCE)]

        def pay(pressed: protocol.Purchase) -> protocol.ChargeSnapshot:
            with shop.app.app_context():
                return protocol.pay(pressed, shop.gateway, 1.0)

        charges = at_once(*[lambda pressed=pressed: pay(pressed) for pressed in purchases])  # type: ignore[misc]
        shown |= {charge.receipt_id: charge for charge in charges}
        recover(shop)
        proxy.rule = lambda request: network.FORWARD
        recover_and_audit(shop)
    for receipt_id, charge in shown.items():
        now = shop.value("SELECT status FROM charge WHERE key = :key", key=_stored_key(shop, charge.key))
        assert charge.status in PENDING or now == charge.status, receipt_id
    report(f"network faults, {engine_name}", payments=len(shown), requests=sum(proxy.counts.values()),
           **{name.replace(" ", "_"): count for name, count in proxy.counts.items()})  # fmt: skip


def _stored_key(shop: Shop, key: UUID) -> object:
    """Return the key as plain SQL must compare it: SQLite stores 32 hexadecimal digits."""
    return key if "postgresql" in shop.database_url else key.hex


def test_if_the_bank_refuses_connections_the_page_says_that_nothing_was_charged(shop: Shop, bank: RunningBank) -> None:
    """Nothing was sent, so the outcome is definite and the basket is open again at once."""
    shopper = shop.shopper()
    form = ready_to_pay(shopper)
    bank.kill()
    shop.gateway = SandboxGateway(bank.url, API_KEY, shop="Test shop")
    shop.gateways.use(shop.gateway)
    page = form.submit()
    assert page.heading == "Nothing was charged"
    assert "never sent" in page.text
    assert shop.rows("SELECT status, reason FROM charge") == [(CANCELED, "not_sent")]
    bank.start()
    assert checkout_form(shopper).submit().heading == "Paid: €24.00"
    recover_and_audit(shop)


def test_payments_interrupted_by_a_dying_bank_are_settled_after_its_restart(
    app: Flask, shop: Shop, bank: RunningBank, engine_name: str
) -> None:
    shop.gateway = SandboxGateway(bank.url, API_KEY, shop="Test shop")
    shop.gateways.use(shop.gateway)
    statuses: Counter[str] = Counter()
    for _ in range(ROUNDS):
        purchases = [purchase(order()) for _ in range(AT_ONCE)]

        def pay(pressed: protocol.Purchase) -> protocol.ChargeSnapshot:
            with shop.app.app_context():
                return protocol.pay(pressed, shop.gateway, 1.0)

        calls = [lambda pressed=pressed: pay(pressed) for pressed in purchases]  # type: ignore[misc]
        *charges, _ = at_once(*calls, bank.kill)
        statuses.update(str(charge.status) for charge in charges)
        recover(shop)
        bank.start()
        recover_and_audit(shop)
    answer = shop.gateway.lookup(protocol.pay(purchase(order()), shop.gateway, 3.0).payment, 3.0)
    assert answer is not None and answer.outcome is Outcome.SUCCEEDED
    recover_and_audit(shop)
    shown = {f"shown_{status}": count for status, count in statuses.items()}
    report(f"bank killed, {engine_name}", kills=ROUNDS, **shown)
