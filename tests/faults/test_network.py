"""The network between the shop and its bank delays, cuts, holds back and doubles; the bank dies and comes back."""

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
from tests.factories import checkout_form, order, purchase, ready_to_pay
from tests.faults import network
from tests.faults.network import BankProxy, disturbed
from tests.faults.rounds import TIMES, say
from tests.gateways.bank import RunningBank, at_once, running_bank
from tests.healing import heal, recover
from tests.shops import Shop

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180 + 60 * TIMES)]

ROUNDS = 3 * TIMES
AT_ONCE = 8
TROUBLE = [
    network.PASS, network.DELAY, network.DOUBLE, network.CUT_BEFORE, network.CUT_HALF, network.CUT_AFTER,
    network.CUT_ANSWER,
]  # fmt: skip


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBank]:
    """One bank for all of these: who kills it starts it again."""
    folder = tmp_path_factory.mktemp("bank")
    with running_bank(f"sqlite:///{folder}/running/bank.sqlite", folder) as bank:
        yield bank


@pytest.fixture
def proxy(bank: RunningBank) -> Iterator[BankProxy]:
    with disturbed(bank.url) as proxy:
        yield proxy


@pytest.fixture
def shop(make_shop: Callable[..., Shop], proxy: BankProxy) -> Shop:
    """A shop that has only the proxy's way to its bank."""
    shop = make_shop(gateway_deadline=1.5)
    shop.execute("UPDATE product SET stock = stock + 1000000, stocked = stocked + 1000000")
    shop.gateway = SandboxGateway(proxy.url, shop="Test shop")
    shop.gateways.use(shop.gateway)
    return shop


def held_back(request: str) -> str:
    return network.HOLD if request == "POST /v1/charges" else network.PASS


def test_a_request_held_back_in_the_network_takes_nothing_once_its_key_is_fenced(
    shop: Shop, proxy: BankProxy, bank: RunningBank
) -> None:
    """The tombstone: sent, held back, given up by recovery, paid for otherwise; then it arrives after all."""
    shopper = shop.shopper()
    form = ready_to_pay(shopper)
    proxy.rule = held_back
    waiting = form.submit()
    assert waiting.heading == "Your payment is still being confirmed"
    assert shop.charges() == {IN_DOUBT: 1}

    recover(shop)
    assert waiting.reload().heading == "Nothing was charged"
    proxy.rule = lambda request: network.PASS
    assert checkout_form(shopper).submit().heading == "Paid: €24.00"

    proxy.release()
    assert proxy.landed.acquire(timeout=30)
    assert waiting.reload().heading == "Nothing was charged"
    assert moved(shop) == 1
    heal(shop)


def moved(shop: Shop) -> int:
    """How often the bank took money under keys of this shop."""
    ours = {str(UUID(str(token))) for (token,) in shop.rows("SELECT key FROM charge")}
    return sum(line.key in ours for line in shop.gateway.statement())


def test_a_request_that_arrives_before_the_fence_is_found(app: Flask, shop: Shop, proxy: BankProxy) -> None:
    proxy.rule = held_back
    charge = protocol.pay(purchase(order()), shop.gateway, 0.5)
    assert charge.status is IN_DOUBT
    proxy.release()
    assert proxy.landed.acquire(timeout=30)
    recover(shop)
    assert shop.charges() == {SUCCEEDED: 1}
    heal(shop)


@pytest.mark.parametrize("trouble", TROUBLE)
def test_each_trouble_for_every_first_request(app: Flask, shop: Shop, proxy: BankProxy, trouble: str) -> None:
    """In one and the same request: asked again under the same key, the truth is known."""
    first = iter([trouble])
    proxy.rule = lambda request: next(first, network.PASS)
    charge = protocol.pay(purchase(order()), shop.gateway, 3.0)
    assert (charge.status, proxy.done[trouble] > 0) == (SUCCEEDED, True)
    assert moved(shop) == 1
    heal(shop)


def test_a_connection_refused_after_a_lost_answer_proves_nothing(
    app: Flask, shop: Shop, proxy: BankProxy, bank: RunningBank
) -> None:
    """The money was taken and the answer lost; then nobody listens. "Nothing was sent" would be untrue."""
    proxy.rule = lambda request: network.CUT_AND_GO
    charge = protocol.pay(purchase(order()), shop.gateway, 1.0)
    assert charge.status is IN_DOUBT
    assert shop.rows("SELECT note FROM charge") == [("the gateway could not be reached again",)]
    shop.gateway = SandboxGateway(bank.url, shop="Test shop")
    shop.gateways.use(shop.gateway)
    heal(shop)
    assert (shop.charges(), moved(shop)) == ({SUCCEEDED: 1}, 1)


def test_a_network_that_does_what_it_likes(app: Flask, shop: Shop, proxy: BankProxy, engine_name: str) -> None:
    """Charges, lookups and fences alike, many at once. Whoever was told an end is told the same for ever."""
    chance, said = random.Random(TIMES), {}
    for _ in range(ROUNDS):
        proxy.rule = lambda request: chance.choice(TROUBLE)
        presses = [purchase(order()) for _ in range(AT_ONCE)]

        def pay(press: protocol.Purchase) -> protocol.ChargeSnapshot:
            with shop.app.app_context():
                return protocol.pay(press, shop.gateway, 1.0)

        answers = at_once(*[lambda press=press: pay(press) for press in presses])  # type: ignore[misc]
        said |= {answer.receipt: answer for answer in answers}
        recover(shop)
        proxy.rule = lambda request: network.PASS
        heal(shop)
    for receipt, answer in said.items():
        now = shop.value("SELECT status FROM charge WHERE key = :token", token=_key(shop, answer.token))
        assert answer.status in PENDING or now == answer.status, receipt
    say(f"network trouble, {engine_name}", payments=len(said), requests=sum(proxy.done.values()),
        **{name.replace(" ", "_"): count for name, count in proxy.done.items()})  # fmt: skip


def _key(shop: Shop, key: object) -> object:
    return key if "postgresql" in shop.database_url else getattr(key, "hex", key)


def test_a_bank_that_is_away_takes_nothing_and_the_page_says_so(shop: Shop, bank: RunningBank) -> None:
    """Nothing was sent: definite. The basket is open again at once."""
    shopper = shop.shopper()
    form = ready_to_pay(shopper)
    bank.kill()
    shop.gateway = SandboxGateway(bank.url, shop="Test shop")
    shop.gateways.use(shop.gateway)
    page = form.submit()
    assert page.heading == "Nothing was charged"
    assert "never sent" in page.text
    assert shop.rows("SELECT status, reason FROM charge") == [(CANCELED, "not_sent")]
    bank.start()
    assert checkout_form(shopper).submit().heading == "Paid: €24.00"
    heal(shop)


def test_a_bank_that_dies_in_the_middle_is_asked_when_it_is_back(
    app: Flask, shop: Shop, bank: RunningBank, engine_name: str
) -> None:
    shop.gateway = SandboxGateway(bank.url, shop="Test shop")
    shop.gateways.use(shop.gateway)
    ended: Counter[str] = Counter()
    for _ in range(ROUNDS):
        presses = [purchase(order()) for _ in range(AT_ONCE)]

        def pay(press: protocol.Purchase) -> protocol.ChargeSnapshot:
            with shop.app.app_context():
                return protocol.pay(press, shop.gateway, 1.0)

        answers = at_once(*[lambda press=press: pay(press) for press in presses], bank.kill)  # type: ignore[misc]
        ended.update(str(answer.status) for answer in answers[:-1])
        recover(shop)
        bank.start()
        heal(shop)
    late = shop.gateway.lookup(protocol.pay(purchase(order()), shop.gateway, 3.0).payment, 3.0)
    assert late is not None and late.outcome is Outcome.SUCCEEDED
    heal(shop)
    say(f"bank killed, {engine_name}", kills=ROUNDS, **{f"answered_{name}": count for name, count in ended.items()})
