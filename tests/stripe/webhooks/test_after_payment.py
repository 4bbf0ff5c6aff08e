"""Events after a payment: refunds by the shop and by hand."""

from collections.abc import Callable

import httpx
import pytest

from app.charges import refunds, rows
from app.charges.rows import ChargeSnapshot
from app.database import reading
from app.gateways.stripe.gateway import StripeGateway
from tests.page import Shopper
from tests.shops import Shop
from tests.stripe.provider import refunds as provider_refunds
from tests.stripe.provider.server import Provider, deliver
from tests.stripe.test_paying import form_of
from tests.stripe.webhooks.effects import COMPLETED, paid_once, session_id_of


@pytest.fixture(autouse=True)
def paid(shop: Shop, provider: Provider, shopper: Shopper, hook: httpx.Client) -> None:
    provider.pay()
    assert deliver(hook, provider.event(COMPLETED)) == 200


@pytest.fixture
def charge(shop: Shop) -> ChargeSnapshot:
    with shop.app.app_context(), reading() as tx:
        return rows.get(tx, shop.value("SELECT id FROM charge"))


def test_each_refund_by_hand_is_recorded_once(
    shop: Shop, provider: Provider, shopper: Shopper, hook: httpx.Client
) -> None:
    provider.refund_by_hand(1000)
    provider.refund_by_hand(400)
    for event in provider.state.events * 2:
        assert deliver(hook, event) == 200
    found = shop.rows("SELECT amount, status, reason FROM refund ORDER BY amount")
    assert [tuple(row) for row in found] == [
        (400, "succeeded", "at_the_gateway"), (1000, "succeeded", "at_the_gateway")
    ]  # fmt: skip
    assert shop.value("SELECT refunded FROM charge") == 1400
    assert paid_once(shop, provider)
    page = shopper.open(provider.session["success_url"])
    assert (page.title.split(":")[0], "−€14.00" in page.text) == ("Refunded in part", True)


def test_the_event_of_a_refund_may_come_before_that_of_the_payment(
    make_shop: Callable[..., Shop], shop: Shop, provider: Provider, hook: httpx.Client
) -> None:
    other = shop.shopper()
    session = provider.state.sessions[session_id_of(form_of(other).fill(email="b@example.org").post())]
    provider.pay(session)
    charge = provider.paid()[-1]
    provider_refunds.create(provider.state, {"payment_intent": charge["payment_intent"], "amount": 2400})
    assert deliver(hook, provider.event("charge.refunded")) == 200
    assert shop.charges() == {"succeeded": 2}
    assert shop.value("SELECT sum(refunded) FROM charge") == 2400


def test_events_about_our_own_refunds_change_nothing(
    shop: Shop, provider: Provider, hook: httpx.Client, charge: ChargeSnapshot, gateway: StripeGateway
) -> None:
    with shop.app.app_context():
        assert refunds.refund(charge, 900, gateway, 20) == "succeeded"
        assert refunds.refund(charge, 1500, gateway, 20) == "succeeded"
        with pytest.raises(refunds.NotRefundable):
            refunds.refund(charge, 1, gateway, 20)
    for event in provider.state.events:
        assert deliver(hook, event) == 200
    assert shop.value("SELECT count(*) FROM refund") == 2
    assert paid_once(shop, provider)


@pytest.mark.parametrize("kind", ["answer_lost", "not_received", "failed_late", "rate_limited", "in_use", "garbage"])
def test_a_refund_in_doubt_is_recovered(
    shop: Shop, provider: Provider, charge: ChargeSnapshot, gateway: StripeGateway, recover: Callable[..., int],
    kind: str,
) -> None:  # fmt: skip
    provider.fault("POST /v1/refunds", kind)
    with shop.app.app_context():
        assert refunds.refund(charge, 900, gateway, 20) == "in_doubt"
    recover()
    assert shop.rows("SELECT status FROM refund") == [("succeeded",)]
    assert [refund["amount"] for refund in provider.state.refunds.values()] == [900]
    assert paid_once(shop, provider)


def test_a_refund_by_hand_waits_while_a_refund_of_ours_is_open(
    shop: Shop, provider: Provider, hook: httpx.Client, charge: ChargeSnapshot, gateway: StripeGateway,
    recover: Callable[..., int],
) -> None:  # fmt: skip
    provider.fault("POST /v1/refunds", "not_received")
    with shop.app.app_context():
        assert refunds.refund(charge, 2000, gateway, 20) == "in_doubt"
    provider.refund_by_hand(2400)
    assert deliver(hook, provider.event("charge.refunded")) == 503
    recover()
    assert shop.rows("SELECT status, reason FROM refund") == [("declined", "charge_already_refunded")]
    assert deliver(hook, provider.event("charge.refunded")) == 200
    assert shop.value("SELECT refunded FROM charge") == 2400
    assert paid_once(shop, provider)
