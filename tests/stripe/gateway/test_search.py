"""The search of the provider's list ends, also if one deadline is too short for the whole list.

The list is searched only for a charge whose session id is not in the books and whose key the provider has forgotten.
"""

from collections.abc import Callable

import pytest

from app.gateways.base import Answer, Outcome, Payment, Unknown
from app.gateways.stripe import lists, requests
from app.gateways.stripe.gateway import StripeGateway
from tests.stripe.gateway.payments import LIST, WINDOW, new_payment
from tests.stripe.provider.server import Provider

NEWER = 60
"""Sessions that the list shows before the one that is searched."""

FENCED = WINDOW + 2 * requests.SLACK + 1


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "PAGE", 10)


def look_up(provider: Provider, gateway: StripeGateway, payment: Payment) -> Answer | None:
    """Look up the payment while the provider lists two pages per question. It stands for a deadline that ends."""
    provider.faults.clear()
    provider.fault(LIST + " ", "rate_limited", times=9, spared=2)
    return gateway.lookup(payment, 5)


def test_a_search_goes_on_where_it_stopped(
    provider: Provider, gateway: StripeGateway, wait: Callable[[float], None]
) -> None:
    payment = new_payment(gateway)
    gateway.charge(payment, None, 5)
    provider.pay()
    for _ in range(NEWER):
        gateway.charge(new_payment(gateway), None, 5)
    wait(FENCED)
    for _ in range(NEWER // 20):
        with pytest.raises(Unknown, match="429"):
            look_up(provider, gateway, payment)
    answer = look_up(provider, gateway, payment)
    assert answer is not None and answer.outcome is Outcome.SUCCEEDED


def test_a_search_without_a_result_ends_and_begins_anew(
    provider: Provider, gateway: StripeGateway, wait: Callable[[float], None]
) -> None:
    payment = new_payment(gateway)
    for _ in range(25):
        gateway.charge(new_payment(gateway), None, 5)
    wait(FENCED)
    for _ in range(2):
        with pytest.raises(Unknown, match="429"):
            look_up(provider, gateway, payment)
        assert look_up(provider, gateway, payment) is None


def test_a_charge_that_is_long_void_does_not_wait_for_a_search_that_never_ends(
    provider: Provider, gateway: StripeGateway, wait: Callable[[float], None]
) -> None:
    payment = new_payment(gateway)
    provider.fault(LIST + " ", "rate_limited", times=99)
    wait(FENCED)
    with pytest.raises(Unknown, match="429"):
        gateway.lookup(payment, 5)
    wait(requests.SEARCH_LIMIT)
    assert gateway.lookup(payment, 5) is None
    assert gateway.cancel(payment, 5).outcome is Outcome.CANCELED
