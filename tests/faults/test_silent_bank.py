"""The bank falls silent: connections stay open and nothing arrives, before or after the bank has read a request.

The silent twins of `test_network.py`, where sockets are closed. The bank is a process of its own; a proxy or a network
namespace replaces the network. Data that is sent during the silence arrives when it ends.
"""

from collections.abc import Callable, Iterator
from uuid import UUID, uuid4

import pytest

from app.charges import protocol
from app.charges.protocol import ChargeSnapshot, Purchase
from app.charges.states import CANCELED, IN_DOUBT, PENDING, SUCCEEDED
from app.gateways.sandbox.client import SandboxGateway
from tests.factories import API_KEY, checkout_form, order, purchase, ready_to_pay
from tests.faults.conftest import ENOUGH_STOCK
from tests.faults.rounds import TIMES
from tests.gateways.bank import RunningBank, at_once, running_bank
from tests.recovery import recover, recover_and_audit
from tests.shops import Shop
from tests.silence import AFTER, BEFORE, KINDS, Line, Wire, at, line

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180 + 60 * TIMES)]

AT_ONCE = 8
PAID = "Paid: €24.00"
HEAD, BODY = b"POST /v1/charges", b'"return_url"'
"""A client sends head and body one after the other, so a silence after the first cuts a request into halves."""


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBank]:
    folder = tmp_path_factory.mktemp("bank")
    with running_bank(f"sqlite:///{folder}/running/bank.sqlite", folder) as bank:
        yield bank


@pytest.fixture(params=KINDS)
def proxy(bank: RunningBank, request: pytest.FixtureRequest) -> Iterator[Line]:
    with line(at(bank.url), request.param) as proxy:
        yield proxy


@pytest.fixture
def engine_name() -> str:
    """Run these tests on one engine, because they are about the bank."""
    return "sqlite"


@pytest.fixture
def shop(make_shop: Callable[..., Shop], bank: RunningBank, proxy: Line) -> Shop:
    """Return a shop that reaches its bank only through the line, and has a connection that is kept alive.

    The shops of these tests share an account, so each has a SHOP_ID of its own.
    """
    shop = make_shop(gateway_deadline=1.0)
    shop.execute(ENOUGH_STOCK)
    shop.gateway = SandboxGateway(f"http://{proxy.host}:{proxy.port}", API_KEY, shop="Test shop", shop_id=str(uuid4()))
    shop.gateways.use(shop.gateway)
    list(shop.gateway.statement())
    return shop


def settle(shop: Shop, proxy: Line) -> None:
    """End the silence, recover and audit. The bank has taken money once for each charge that succeeded."""
    proxy.restore()
    shop.gateway.close()
    recover_and_audit(shop)
    ours = {str(UUID(str(key))) for (key,) in shop.rows("SELECT key FROM charge")}
    taken = [entry for entry in shop.gateway.statement() if entry.key in ours]
    assert len(taken) == shop.charges()[SUCCEEDED]


@pytest.mark.parametrize(("mark", "side"), [(HEAD, BEFORE), (BODY, BEFORE), (BODY, AFTER)], ids=[
    "nothing arrives", "half arrives", "no answer",
])  # fmt: skip
def test_a_charge_in_silence_is_in_doubt_until_recovery_gets_an_answer(
    shop: Shop, proxy: Line, mark: bytes, side: str
) -> None:
    """A request that arrives late is found, or it meets a fence. Either way the shopper pays once in the end."""
    shopper = shop.shopper()
    proxy.silence_at(mark, side=side)
    receipt = ready_to_pay(shopper).submit()
    assert (proxy.silences, receipt.heading) == (1, "Your payment is still being confirmed")
    recover(shop)
    assert shop.charges() == {IN_DOUBT: 1}, "silence is no answer for recovery either"

    settle(shop, proxy)
    heading = receipt.reload().heading
    if side == AFTER:
        assert heading == PAID
    if heading != PAID:
        assert heading == "Nothing was charged"
        assert checkout_form(shopper).submit().heading == PAID
    settle(shop, proxy)
    assert shop.charges()[SUCCEEDED] == 1


def test_a_connection_that_nobody_accepts_proves_that_nothing_was_sent(shop: Shop, proxy: Line) -> None:
    """Without a namespace the proxy's kernel accepts the connection, and then nothing is proved."""
    shopper = shop.shopper()
    form = ready_to_pay(shopper)
    shop.gateway.close()
    proxy.go_silent()
    page = form.submit()
    if isinstance(proxy, Wire):
        assert (page.heading, shop.charges()) == ("Nothing was charged", {CANCELED: 1})
        assert "never sent" in page.text
    else:
        assert (page.heading, shop.charges()) == ("Your payment is still being confirmed", {IN_DOUBT: 1})
    settle(shop, proxy)


def test_payments_interrupted_by_silence_are_settled_after_it(shop: Shop, proxy: Line) -> None:
    with shop.app.app_context():
        purchases = [purchase(order()) for _ in range(AT_ONCE * TIMES)]

    def pay(pressed: Purchase) -> ChargeSnapshot:
        with shop.app.app_context():
            return protocol.pay(pressed, shop.gateway, 1.0)

    calls = [lambda pressed=pressed: pay(pressed) for pressed in purchases]  # type: ignore[misc]
    *charges, _ = at_once(*calls, proxy.go_silent)
    settle(shop, proxy)
    for charge in charges:
        now = shop.value("SELECT status FROM charge WHERE id = :id", id=charge.id)
        assert charge.status in PENDING or now == charge.status
