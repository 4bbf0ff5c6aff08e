"""Refunds: the money moves once per key."""

from collections.abc import Callable
from uuid import uuid4

import pytest

from app.gateways.base import Outcome, Payment, RefundRequest, Unknown
from app.gateways.stripe.gateway import StripeGateway
from tests.stripe.gateway.payments import charged, new_payment
from tests.stripe.provider.server import Provider


@pytest.fixture
def paid(provider: Provider, gateway: StripeGateway) -> Payment:
    payment = charged(gateway, new_payment(gateway))
    provider.pay()
    return payment


def test_a_refund_moves_money_once_per_key(provider: Provider, gateway: StripeGateway, paid: Payment) -> None:
    request = RefundRequest(str(uuid4()), 1000, paid)
    assert gateway.lookup_refund(request, 5) is None
    first = gateway.refund(request, 5)
    assert first == gateway.refund(request, 5) == gateway.lookup_refund(request, 5)
    assert first.outcome is Outcome.SUCCEEDED
    assert [refund["amount"] for refund in provider.state.refunds.values()] == [1000]
    assert [(line.key, line.kind, line.amount) for line in gateway.statement()] == [
        (paid.key, "charge", 4800), (request.key, "refund", 1000)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "kind", ["answer_lost", "not_received", "failed", "failed_late", "rate_limited", "in_use", "garbage"]
)
def test_without_an_answer_the_refund_is_unknown_and_made_once(
    provider: Provider, gateway: StripeGateway, paid: Payment, kind: str, wait: Callable[[float], None]
) -> None:
    request = RefundRequest(str(uuid4()), 4800, paid)
    provider.fault("POST /v1/refunds", kind)
    with pytest.raises(Unknown):
        gateway.refund(request, 5)
    if kind == "failed":  # The provider stores the failure for a day; until then the key can't make the refund.
        with pytest.raises(Unknown):
            gateway.refund(request, 5)
        wait(25 * 3600)
    known = gateway.lookup_refund(request, 5) or gateway.refund(request, 5)
    assert known.outcome is Outcome.SUCCEEDED
    assert len(provider.state.refunds) == 1


def test_a_refund_of_more_than_is_left_is_declined(provider: Provider, gateway: StripeGateway, paid: Payment) -> None:
    provider.refund_by_hand(4000)
    assert gateway.refund(RefundRequest(str(uuid4()), 1000, paid), 5).outcome is Outcome.DECLINED
    assert gateway.refund(RefundRequest(str(uuid4()), 800, paid), 5).outcome is Outcome.SUCCEEDED
    assert gateway.refund(RefundRequest(str(uuid4()), 1, paid), 5).outcome is Outcome.DECLINED


def test_a_failed_refund_is_declined_and_a_pending_one_is_unknown(
    provider: Provider, gateway: StripeGateway, paid: Payment
) -> None:
    provider.state.refund_status = "failed"
    failed = gateway.refund(RefundRequest(str(uuid4()), 1000, paid), 5)
    assert (failed.outcome, failed.reason) == (Outcome.DECLINED, "lost_or_stolen_card")
    provider.state.refund_status = "pending"
    pending = RefundRequest(str(uuid4()), 1000, paid)
    for method in (gateway.refund, gateway.lookup_refund):
        with pytest.raises(Unknown, match="pending"):
            method(pending, 5)
    for refund in provider.state.refunds.values():
        refund["status"] = "succeeded"
    answer = gateway.lookup_refund(pending, 5)
    assert answer and answer.outcome is Outcome.SUCCEEDED


def test_a_refund_by_hand_has_a_key_of_its_own(provider: Provider, gateway: StripeGateway, paid: Payment) -> None:
    ours = RefundRequest(str(uuid4()), 1000, paid)
    gateway.refund(ours, 5)
    by_hand = provider.refund_by_hand(300)
    found = {each.key: each for each in gateway.refunds_of(paid, 5)}
    assert (found.pop(ours.key).ours, len(found)) == (True, 1)
    (other,) = found.values()
    assert (other.ours, other.amount, other.gateway_reference) == (False, 300, by_hand["id"])
    assert {line.key for line in gateway.statement() if line.kind == "refund"} == {ours.key, other.key}
