"""Money back, once a key."""

from collections.abc import Callable
from uuid import uuid4

import pytest

from app.gateways.base import Outcome, Payment, RefundRequest, Unknown
from app.gateways.stripe.gateway import StripeGateway
from tests.stripe.gateway.asking import charged, payment
from tests.stripe.provider.server import Provider


@pytest.fixture
def paid(provider: Provider, gateway: StripeGateway) -> Payment:
    made = charged(gateway, payment(gateway))
    provider.pay()
    return made


def test_a_refund_moves_money_once_a_key(provider: Provider, gateway: StripeGateway, paid: Payment) -> None:
    part = RefundRequest(str(uuid4()), 1000, paid)
    assert gateway.lookup_refund(part, 5) is None
    first = gateway.refund(part, 5)
    assert first == gateway.refund(part, 5) == gateway.lookup_refund(part, 5)
    assert first.outcome is Outcome.SUCCEEDED
    assert [refund["amount"] for refund in provider.state.refunds.values()] == [1000]
    assert [(line.key, line.kind, line.amount) for line in gateway.statement()] == [
        (paid.key, "charge", 4800), (part.key, "refund", 1000)
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["lost", "unheard", "fell", "fell_late", "busy", "in_use", "garbage"])
def test_no_answer_is_doubt(
    provider: Provider, gateway: StripeGateway, paid: Payment, kind: str, wait: Callable[[float], None]
) -> None:
    all_ = RefundRequest(str(uuid4()), 4800, paid)
    provider.fault("POST /v1/refunds", kind)
    with pytest.raises(Unknown):
        gateway.refund(all_, 5)
    if kind == "fell":  # The failure is remembered for a day: until then nobody makes a second one.
        with pytest.raises(Unknown):
            gateway.refund(all_, 5)
        wait(25 * 3600)
    known = gateway.lookup_refund(all_, 5) or gateway.refund(all_, 5)
    assert known.outcome is Outcome.SUCCEEDED
    assert len(provider.state.refunds) == 1


def test_what_the_provider_has_given_back_already_is_declined(
    provider: Provider, gateway: StripeGateway, paid: Payment
) -> None:
    provider.refund_by_hand(4000)
    assert gateway.refund(RefundRequest(str(uuid4()), 1000, paid), 5).outcome is Outcome.DECLINED
    assert gateway.refund(RefundRequest(str(uuid4()), 800, paid), 5).outcome is Outcome.SUCCEEDED
    assert gateway.refund(RefundRequest(str(uuid4()), 1, paid), 5).outcome is Outcome.DECLINED


def test_a_refund_that_fails_or_waits(provider: Provider, gateway: StripeGateway, paid: Payment) -> None:
    provider.state.refund_status = "failed"
    failed = gateway.refund(RefundRequest(str(uuid4()), 1000, paid), 5)
    assert (failed.outcome, failed.reason) == (Outcome.DECLINED, "lost_or_stolen_card")
    provider.state.refund_status = "pending"
    waiting = RefundRequest(str(uuid4()), 1000, paid)
    for ask in (gateway.refund, gateway.lookup_refund):
        with pytest.raises(Unknown, match="pending"):
            ask(waiting, 5)
    for refund in provider.state.refunds.values():
        refund["status"] = "succeeded"
    answer = gateway.lookup_refund(waiting, 5)
    assert answer and answer.outcome is Outcome.SUCCEEDED


def test_refunds_by_hand_have_a_key_of_their_own(provider: Provider, gateway: StripeGateway, paid: Payment) -> None:
    ours = RefundRequest(str(uuid4()), 1000, paid)
    gateway.refund(ours, 5)
    by_hand = provider.refund_by_hand(300)
    found = {each.key: each for each in gateway.refunds_of(paid, 5)}
    assert (found.pop(ours.key).ours, len(found)) == (True, 1)
    (other,) = found.values()
    assert (other.ours, other.amount, other.gateway_reference) == (False, 300, by_hand["id"])
    assert {line.key for line in gateway.statement() if line.kind == "refund"} == {ours.key, other.key}
