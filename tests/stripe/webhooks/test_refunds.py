"""Refunds at a provider that forgets keys, refuses, changes its mind, and is slow."""

from collections.abc import Callable
from time import time
from uuid import UUID, uuid4

import httpx
import pytest

from app import leases
from app.charges import recovery, refund_rows, refunds
from app.charges.rows import ChargeSnapshot
from app.gateways.base import RefundRequest
from app.gateways.stripe.gateway import StripeGateway
from app.gateways.stripe.refunds import REFUSED
from tests.page import Shopper
from tests.shops import Shop
from tests.stripe.provider import disputes
from tests.stripe.provider import refunds as provider_refunds
from tests.stripe.provider.server import Provider, deliver
from tests.stripe.webhooks.effects import COMPLETED
from tests.stripe.webhooks.paid import HOUR, grow_older, only_charge, run_audit

DAY = 24 * HOUR


@pytest.fixture
def charge(shop: Shop, provider: Provider, shopper: Shopper, hook: httpx.Client) -> ChargeSnapshot:
    provider.pay()
    assert deliver(hook, provider.event(COMPLETED)) == 200
    return only_charge(shop)


def statuses(shop: Shop) -> list[tuple[str, str | None]]:
    return [tuple(row) for row in shop.rows("SELECT status, reason FROM refund ORDER BY id")]


def amounts(provider: Provider) -> list[int]:
    return [refund["amount"] for refund in provider.state.refunds.values()]


def doubtful(shop: Shop, provider: Provider, charge: ChargeSnapshot, kind: str = "not_received") -> UUID:
    """Try to refund a part, but meet this fault. Return the refund's key."""
    key = uuid4()
    provider.fault("POST /v1/refunds", kind)
    with shop.app.app_context():
        assert refunds.refund(charge, 900, shop.gateways.current, 20, key) == "in_doubt"
    return key


def test_a_process_that_was_held_up_for_a_day_sends_nothing(
    shop: Shop, provider: Provider, charge: ChargeSnapshot, recover: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recovery makes the refund meanwhile, and the provider forgets the key."""
    with shop.app.app_context():
        claimed = refunds.claim(charge, 900, uuid4(), 20)
        recover()
        assert amounts(provider) == [900]
        provider.state.ahead += 2 * DAY
        monkeypatch.setattr(leases, "time", lambda: time() + 2 * DAY)
        assert refunds.settle(claimed, charge, shop.gateways.current, 20) == "succeeded"
    assert amounts(provider) == [900]


@pytest.mark.parametrize("arrived", [True, False])
def test_a_claim_that_is_too_old_is_never_sent(
    shop: Shop, provider: Provider, charge: ChargeSnapshot, gateway: StripeGateway, recover: Callable[..., int],
    arrived: bool,
) -> None:  # fmt: skip
    """The process that claimed was killed, before or after its request arrived. The key is used again a day later."""
    key = uuid4()
    with shop.app.app_context():
        refunds.claim(charge, 900, key, 20)
        if arrived:
            gateway.refund(RefundRequest(str(key), 900, charge.payment), 20)
        provider.state.ahead += DAY
        grow_older(shop, refund_rows.SEND_FOR + 1)
        again = refunds.refund(charge, 900, gateway, 20, key)
    recover()
    assert (again, amounts(provider)) == (("succeeded", [900]) if arrived else ("in_doubt", []))
    if arrived:
        return
    assert "not sent any more" in shop.value("SELECT attention FROM refund")
    grow_older(shop, refund_rows.SEND_FOR + refund_rows.ARRIVES_WITHIN + 1)
    recover()
    assert statuses(shop) == [("withdrawn", "never_arrived")]
    assert (shop.value("SELECT refunded FROM charge"), amounts(provider)) == (0, [])
    report = run_audit(shop)
    assert (report.broken, ["withdrawn: it never" in each for each in report.attention]) == ({}, [True])


def test_a_refund_is_sent_again_only_within_half_the_life_of_its_key(
    shop: Shop, provider: Provider, charge: ChargeSnapshot, recover: Callable[..., int]
) -> None:
    doubtful(shop, provider, charge)
    grow_older(shop, refund_rows.SEND_FOR - 60)
    recover()
    assert (statuses(shop), amounts(provider)) == ([("succeeded", None)], [900])


def test_the_refund_of_a_disputed_payment_ends_and_is_not_made_when_the_dispute_is_won(
    shop: Shop, provider: Provider, charge: ChargeSnapshot, recover: Callable[..., int]
) -> None:
    doubtful(shop, provider, charge)
    dispute = disputes.open_(provider.state, provider.paid()[0])
    recover()
    assert statuses(shop) == [("declined", "charge_disputed")]
    said = shop.rows("SELECT gateway_message, gateway_request_id FROM refund")
    assert said == [("Charge has been charged back; cannot issue a refund.", "req_test")]
    disputes.close(provider.state, dispute, "won")
    provider.state.ahead += 2 * DAY
    recover()
    assert (amounts(provider), shop.value("SELECT refunded FROM charge")) == ([], 0)


@pytest.mark.parametrize("code", sorted(REFUSED - {"charge_disputed", "charge_already_refunded"}))
def test_a_refusal_ends_a_refund(
    shop: Shop, provider: Provider, charge: ChargeSnapshot, gateway: StripeGateway, code: str
) -> None:
    provider.state.refund_refused_for = code
    with shop.app.app_context():
        assert refunds.refund(charge, 900, gateway, 20) == "declined"
    assert statuses(shop) == [("declined", code)]


def test_before_a_refusal_ends_a_refund_its_key_is_looked_for(
    shop: Shop, provider: Provider, charge: ChargeSnapshot, gateway: StripeGateway
) -> None:
    """An earlier try has made the refund, and the provider has forgotten its key."""
    key = uuid4()
    with shop.app.app_context():
        claimed = refunds.claim(charge, charge.amount, key, 20)
        assert refunds.settle(claimed, charge, gateway, 20) == "succeeded"
        provider.state.keys.clear()
        request = RefundRequest(str(key), charge.amount, charge.payment)
        assert gateway.refund(request, 2).outcome == "succeeded"
    assert amounts(provider) == [charge.amount]


@pytest.mark.parametrize("kind", ["unauthorized", "forbidden", "in_use", "rate_limited"])
def test_an_answer_that_is_no_outcome_leaves_doubt_and_raises_an_alarm(
    shop: Shop, provider: Provider, charge: ChargeSnapshot, recover: Callable[..., int], kind: str
) -> None:
    doubtful(shop, provider, charge, kind)
    attention = shop.value("SELECT attention FROM refund")
    assert attention.startswith("the provider answered 4")
    assert any(attention in item for item in run_audit(shop).open)
    metrics = shop.shopper().client.get("/metrics").text
    assert 'payonce_attention{kind="refund",status="in_doubt"} 1.0' in metrics
    recover()
    assert (statuses(shop), amounts(provider)) == ([("succeeded", None)], [900])
    assert "payonce_attention{kind=" not in shop.shopper().client.get("/metrics").text


def test_a_refund_that_fails_later_is_reversed(
    shop: Shop, provider: Provider, charge: ChargeSnapshot, gateway: StripeGateway, hook: httpx.Client,
    shopper: Shopper,
) -> None:  # fmt: skip
    with shop.app.app_context():
        assert refunds.refund(charge, 900, gateway, 20) == "succeeded"
    (refund,) = provider.state.refunds.values()
    provider_refunds.change(provider.state, refund, "failed")
    for kind in ("refund.failed", "charge.refund.updated", "refund.created"):
        assert deliver(hook, provider.event(kind)) == 200
    assert statuses(shop) == [("failed", "expired_or_canceled_card")]
    assert shop.value("SELECT refunded FROM charge") == 0
    assert shop.value("SELECT sum(amount) FROM ledger_entry WHERE account = 'gateway'") == charge.amount
    report = run_audit(shop)
    assert (report.broken, len(report.attention)) == ({}, 1)
    page = shopper.open(f"/receipts/{charge.receipt_id}")
    assert page.title.startswith("Paid") and "A refund of €9.00 came back to us" in page.text
    assert "−€9.00" not in page.text
    with shop.app.app_context():
        assert refunds.refund(charge, charge.amount, gateway, 20) == "succeeded"
    assert "came back to us" not in shopper.open(f"/receipts/{charge.receipt_id}").text
    assert run_audit(shop).broken == {}


@pytest.mark.parametrize("status", ["succeeded", "failed", "canceled"])
def test_an_event_settles_a_pending_refund(
    shop: Shop, provider: Provider, charge: ChargeSnapshot, gateway: StripeGateway, hook: httpx.Client, status: str
) -> None:
    provider.state.refund_status = "pending"
    with shop.app.app_context():
        assert refunds.refund(charge, 900, gateway, 20) == "in_doubt"
    (refund,) = provider.state.refunds.values()
    provider_refunds.change(provider.state, refund, status)
    assert deliver(hook, provider.event("charge.refund.updated")) == 200
    assert [status for status, _ in statuses(shop)] == ["succeeded" if status == "succeeded" else "declined"]
    assert run_audit(shop).broken == {}


def test_a_refund_by_hand_that_fails_later_is_reversed(
    shop: Shop, provider: Provider, charge: ChargeSnapshot, hook: httpx.Client
) -> None:
    refund = provider.refund_by_hand(1000)
    assert deliver(hook, provider.event("refund.created")) == 200
    assert shop.value("SELECT refunded FROM charge") == 1000
    provider_refunds.change(provider.state, refund, "failed")
    assert deliver(hook, provider.event("refund.failed")) == 200
    assert (statuses(shop)[0][0], shop.value("SELECT refunded FROM charge")) == ("failed", 0)
    assert run_audit(shop).broken == {}


def stray(shop: Shop, provider: Provider, hook: httpx.Client) -> None:
    """Let the provider take money for a charge that is canceled in the books."""
    shop.execute("UPDATE charge SET status = 'canceled', ended_at = created_at")
    shop.execute("UPDATE orders SET state = 'open'")
    shop.execute("UPDATE product SET stock = stocked")
    provider.pay()
    assert deliver(hook, provider.event(COMPLETED)) == 200


def test_a_stray_payment_whose_refund_is_declined_is_tried_again_under_a_new_key(
    shop: Shop, provider: Provider, shopper: Shopper, hook: httpx.Client, recover: Callable[..., int]
) -> None:
    stray(shop, provider, hook)
    provider.state.refund_refused_for = "balance_insufficient"
    recover()
    assert [status for status, _ in statuses(shop)] == ["declined", "processing"]
    with shop.app.app_context():
        assert recovery.run_refunds(shop.gateways, 2) == 0, "not at once: the reason must have time to pass"
    assert shop.value("SELECT count(DISTINCT key) FROM refund") == 2
    assert "declined: balance_insufficient" in shop.value("SELECT attention FROM refund WHERE status = 'processing'")
    receipt = f"/receipts/{shop.value('SELECT receipt_id FROM charge')}"
    page = shopper.open(receipt)
    assert page.title.startswith("Return not confirmed yet") and "you need do nothing" not in page.text
    recover()
    provider.state.refund_refused_for = None
    recover()
    assert [status for status, _ in statuses(shop)] == ["declined", "declined", "succeeded"]
    assert shopper.open(receipt).title.startswith("Given back")
    assert deliver(hook, {**provider.event(COMPLETED), "id": "evt_again"}) == 200
    report = run_audit(shop)
    assert (report.broken, amounts(provider)) == ({}, [2400])


def test_a_refund_by_hand_of_a_stray_payment_is_taken_over(
    shop: Shop, provider: Provider, shopper: Shopper, hook: httpx.Client, recover: Callable[..., int]
) -> None:
    stray(shop, provider, hook)
    provider.state.refund_refused_for = "charge_not_refundable"
    recover()
    provider.state.refund_refused_for = None
    refund = provider.refund_by_hand(2400)
    for kind in ("refund.created", "charge.refunded"):
        assert deliver(hook, provider.event(kind)) == 200
    recover()
    assert [status for status, _ in statuses(shop)] == ["declined", "withdrawn", "succeeded"]
    assert (run_audit(shop).broken, amounts(provider)) == ({}, [2400])
    provider_refunds.change(provider.state, refund, "failed")
    assert deliver(hook, provider.event("refund.failed")) == 200
    assert [status for status, _ in statuses(shop)][2:] == ["failed", "processing"]
    recover()
    assert [status for status, _ in statuses(shop)][3:] == ["succeeded"]
    assert run_audit(shop).broken == {}


def test_a_part_of_a_stray_payment_that_was_refunded_by_hand_is_noted(
    shop: Shop, provider: Provider, shopper: Shopper, hook: httpx.Client
) -> None:
    stray(shop, provider, hook)
    provider.refund_by_hand(1000)
    assert deliver(hook, provider.event("refund.created")) == 200
    assert shop.value("SELECT count(*) FROM webhook_event WHERE effect = 'noted'") == 1
    assert statuses(shop) == [("processing", None)]
