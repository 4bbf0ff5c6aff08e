"""Ending a session: nobody can pay on it any more, and what won is answered."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from app.gateways.base import Outcome, Unknown
from app.gateways.stripe.gateway import StripeGateway
from tests.stripe.gateway.asking import CREATE, charged, payment
from tests.stripe.provider.server import Provider
from tests.stripe.provider.state import DECLINES


def test_cancel_fences_a_request_that_is_still_on_its_way(provider: Provider, gateway: StripeGateway) -> None:
    made = payment(gateway)
    held = provider.fault(CREATE, "held")
    with ThreadPoolExecutor() as pool:
        first = pool.submit(gateway.charge, made, None, 10)
        assert held.reached.wait(5)
        assert gateway.cancel(made, 5).outcome is Outcome.CANCELED
        held.go.set()
        late = first.result()
    assert late.gateway_reference == provider.session["id"]
    assert (provider.session["status"], provider.pay()) == ("expired", "over")


def test_cancel_answers_with_what_won(provider: Provider, gateway: StripeGateway) -> None:
    made = charged(gateway, payment(gateway))
    provider.pay()
    assert gateway.cancel(made, 5).outcome is Outcome.SUCCEEDED
    assert len(provider.paid()) == 1


def test_paid_between_our_look_and_our_ending(provider: Provider, gateway: StripeGateway) -> None:
    made = charged(gateway, payment(gateway))
    held = provider.fault(CREATE + "/", "held")
    with ThreadPoolExecutor() as pool:
        giving_up = pool.submit(gateway.cancel, made, 10)
        assert held.reached.wait(5)
        assert provider.pay() == "paid"
        held.go.set()
        assert giving_up.result().outcome is Outcome.SUCCEEDED


def test_cancel_is_doubt_while_the_provider_does_not_end_it(provider: Provider, gateway: StripeGateway) -> None:
    made = charged(gateway, payment(gateway))
    for kind in ("fell", "busy", "unheard", "garbage"):
        provider.fault(CREATE + "/", kind)
        with pytest.raises(Unknown):
            gateway.cancel(made, 5)
    assert gateway.cancel(made, 5).outcome is Outcome.CANCELED


def test_declined_on_the_page_is_no_end(provider: Provider, gateway: StripeGateway) -> None:
    made = charged(gateway, payment(gateway))
    assert provider.pay(number=DECLINES) == "declined"
    answer = gateway.lookup(made, 5)
    assert answer and answer.outcome is Outcome.REQUIRES_ACTION
    assert provider.pay() == "paid"
    answer = gateway.lookup(made, 5)
    assert answer and answer.outcome is Outcome.SUCCEEDED
