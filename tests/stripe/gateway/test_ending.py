"""Cancelling a payment: its session can no longer be paid, and the outcome that won is returned."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from app.gateways.base import Outcome, Unknown
from app.gateways.stripe.gateway import StripeGateway
from tests.stripe.gateway.payments import CREATE, charged, new_payment
from tests.stripe.provider.server import Provider
from tests.stripe.provider.state import DECLINES


def test_cancel_fences_a_request_that_is_still_on_its_way(provider: Provider, gateway: StripeGateway) -> None:
    payment = new_payment(gateway)
    delay = provider.fault(CREATE, "delayed")
    with ThreadPoolExecutor() as pool:
        first = pool.submit(gateway.charge, payment, None, 10)
        assert delay.reached.wait(5)
        assert gateway.cancel(payment, 5).outcome is Outcome.CANCELED
        delay.go.set()
        late = first.result()
    assert late.gateway_reference == provider.session["id"]
    assert (provider.session["status"], provider.pay()) == ("expired", "over")


def test_cancel_returns_the_outcome_that_won(provider: Provider, gateway: StripeGateway) -> None:
    payment = charged(gateway, new_payment(gateway))
    provider.pay()
    assert gateway.cancel(payment, 5).outcome is Outcome.SUCCEEDED
    assert len(provider.paid()) == 1


def test_a_payment_between_lookup_and_expiry_wins(provider: Provider, gateway: StripeGateway) -> None:
    payment = charged(gateway, new_payment(gateway))
    delay = provider.fault(CREATE + "/", "delayed")
    with ThreadPoolExecutor() as pool:
        cancel = pool.submit(gateway.cancel, payment, 10)
        assert delay.reached.wait(5)
        assert provider.pay() == "paid"
        delay.go.set()
        assert cancel.result().outcome is Outcome.SUCCEEDED


def test_cancel_is_unknown_until_the_provider_has_expired_the_session(
    provider: Provider, gateway: StripeGateway
) -> None:
    payment = charged(gateway, new_payment(gateway))
    for kind in ("failed", "rate_limited", "not_received", "garbage"):
        provider.fault(CREATE + "/", kind)
        with pytest.raises(Unknown):
            gateway.cancel(payment, 5)
    assert gateway.cancel(payment, 5).outcome is Outcome.CANCELED


def test_a_decline_on_the_page_does_not_end_the_payment(provider: Provider, gateway: StripeGateway) -> None:
    payment = charged(gateway, new_payment(gateway))
    assert provider.pay(number=DECLINES) == "declined"
    answer = gateway.lookup(payment, 5)
    assert answer and answer.outcome is Outcome.REQUIRES_ACTION
    assert provider.pay() == "paid"
    answer = gateway.lookup(payment, 5)
    assert answer and answer.outcome is Outcome.SUCCEEDED
