"""Idempotency keys at the provider: lost answers, and keys that are repeated, in use, misused and forgotten."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import uuid4

import httpx
import pytest

from app.gateways.base import Answer, NotSent, Outcome, Payment, Unknown
from app.gateways.stripe import requests
from app.gateways.stripe.gateway import StripeGateway
from tests.stripe.gateway.payments import CREATE, LIST, WINDOW, new_payment
from tests.stripe.provider.server import Provider
from tests.stripe.provider.state import API_KEY


@pytest.mark.parametrize(
    "kind", ["answer_lost", "not_received", "failed_late", "failed", "rate_limited", "in_use", "garbage"]
)
def test_without_an_answer_the_charge_is_unknown_and_lookup_finds_the_only_session(
    provider: Provider, gateway: StripeGateway, wait: Callable[[float], None], kind: str
) -> None:
    provider.fault(CREATE, kind)
    payment = new_payment(gateway)
    with pytest.raises(Unknown):
        gateway.charge(payment, None, 5)
    if kind == "failed":
        with pytest.raises(Unknown, match="no session for this key yet"):
            gateway.lookup(payment, 5)
        wait(WINDOW + 2 * requests.SLACK + 1)
        assert gateway.lookup(payment, 5) is None
        assert gateway.cancel(payment, 5).outcome is Outcome.CANCELED
        assert provider.state.sessions == {}
        return
    answer = gateway.lookup(payment, 5)
    assert answer and answer.outcome is Outcome.REQUIRES_ACTION
    assert answer.action_url == provider.session["url"]


def test_a_provider_that_can_t_be_reached_was_sent_nothing(provider: Provider) -> None:
    unreachable = StripeGateway(API_KEY, window=WINDOW, api_base="http://127.0.0.1:9", page_origin="http://127.0.0.1:9")
    with pytest.raises(NotSent):
        unreachable.charge(new_payment(unreachable), None, 2)


def test_the_library_never_retries_by_itself(provider: Provider, gateway: StripeGateway) -> None:
    for kind in ("failed", "rate_limited", "in_use", "answer_lost"):
        provider.fault(CREATE, kind)
        before = len(provider.requests)
        with pytest.raises(Unknown):
            gateway.charge(new_payment(gateway), None, 5)
        assert len(provider.requests) == before + 1


def test_a_slow_provider_does_not_exceed_the_deadline(provider: Provider, gateway: StripeGateway) -> None:
    delay = provider.fault(CREATE, "delayed")
    with pytest.raises(Unknown, match="in time"):
        gateway.charge(new_payment(gateway), None, 2.0)
    delay.go.set()


def test_asking_again_can_help_after_a_new_failure_but_not_after_a_stored_one(
    provider: Provider, gateway: StripeGateway
) -> None:
    provider.fault(CREATE, "failed")
    payment = new_payment(gateway)
    with pytest.raises(Unknown) as new:
        gateway.charge(payment, None, 5)
    with pytest.raises(Unknown) as stored:
        gateway.charge(payment, None, 5)
    provider.fault(CREATE, "rate_limited")
    with pytest.raises(Unknown) as limited:
        gateway.charge(new_payment(gateway), None, 5)
    assert (new.value.again, stored.value.again, limited.value.again) == (True, False, False)


def test_twins_create_one_session(provider: Provider, gateway: StripeGateway) -> None:
    payment = new_payment(gateway)
    slow = provider.fault(CREATE, "slow")
    with ThreadPoolExecutor() as pool:
        first = pool.submit(gateway.charge, payment, None, 5)
        assert slow.reached.wait(5)
        with pytest.raises(Unknown, match="409") as twin:
            gateway.charge(payment, None, 5)
        slow.go.set()
        assert (
            first.result().gateway_reference
            == gateway.charge(payment, None, 5).gateway_reference
            == provider.session["id"]
        )
    assert twin.value.again


def test_another_request_under_the_same_key_is_unknown(provider: Provider, gateway: StripeGateway) -> None:
    payment = new_payment(gateway)
    gateway.charge(payment, None, 5)
    assert payment.gateway_request is not None
    other = replace(
        payment,
        gateway_request={
            **payment.gateway_request,
            "params": {**payment.gateway_request["params"], "cancel_url": "http://x/"},
        },
    )
    with pytest.raises(Unknown, match="idempotency_error") as refusal:
        gateway.charge(other, None, 5)
    assert not refusal.value.again


def test_the_request_is_repeated_exactly_as_it_was_stored(provider: Provider, gateway: StripeGateway) -> None:
    """The claim is ten minutes old. A request that is prepared now would be different."""
    payment = new_payment(gateway)
    assert payment.gateway_request is not None
    params = {**payment.gateway_request["params"], "expires_at": payment.gateway_request["params"]["expires_at"] - 600}
    stored = replace(
        payment,
        gateway_request={**payment.gateway_request, "made": payment.gateway_request["made"] - 600, "params": params},
    )
    gateway.charge(stored, None, 5)
    gateway.lookup(stored, 5)
    first, again = (request for request in provider.requests if request.method == "POST")
    assert first == again
    assert first.params["expires_at"] == str(params["expires_at"])
    assert set(first.params) == set(params)


def test_the_request_is_repeated_with_the_api_version_that_it_was_made_for() -> None:
    versions: list[str] = []

    def fail(request: httpx.Request) -> httpx.Response:
        versions.append(request.headers["Stripe-Version"])
        return httpx.Response(500, json={})

    transport = httpx.MockTransport(fail)
    gateway = StripeGateway(API_KEY, window=WINDOW, api_base="http://p", page_origin="http://p", transport=transport)
    payment = new_payment(gateway)
    for method in (gateway.lookup, gateway.cancel):
        with pytest.raises(Unknown):
            method(replace(payment, gateway_request={**(payment.gateway_request or {}), "version": "2020-08-27"}), 5)
    assert versions == ["2020-08-27"] * 2


def test_lookup_reads_the_present_session_not_the_stored_answer(provider: Provider, gateway: StripeGateway) -> None:
    payment = new_payment(gateway)
    gateway.charge(payment, None, 5)
    provider.pay()
    answer = gateway.lookup(payment, 5)
    assert answer and answer.outcome is Outcome.SUCCEEDED
    assert len(provider.state.sessions) == 1


def test_after_the_key_is_forgotten_the_list_is_searched_and_nothing_is_created(
    provider: Provider, gateway: StripeGateway, wait: Callable[[float], None]
) -> None:
    payment = new_payment(gateway)
    gateway.charge(payment, None, 5)
    provider.pay()
    for _ in range(120):
        gateway.charge(new_payment(gateway), None, 5)
    wait(25 * 3600)
    before = provider.calls(CREATE)
    answer = gateway.lookup(payment, 5)
    assert answer and answer.outcome is Outcome.SUCCEEDED
    assert (provider.calls(CREATE), provider.calls(LIST)) == (before, 2 + 1)
    assert gateway.lookup(never_sent(payment), 5) is None
    assert provider.calls(CREATE) == before


def never_sent(payment: Payment) -> Payment:
    """Return a payment of the same age that was never sent."""
    return replace(payment, key=str(uuid4()))


def test_a_request_that_arrives_after_its_fence_creates_nothing(
    provider: Provider, gateway: StripeGateway, wait: Callable[[float], None]
) -> None:
    payment = new_payment(gateway)
    delay = provider.fault(CREATE, "delayed")
    with pytest.raises(Unknown):
        gateway.charge(payment, None, 2.0)
    wait(WINDOW + 2 * requests.SLACK + 1)
    assert gateway.lookup(payment, 5) is None
    assert gateway.cancel(payment, 5) == Answer(Outcome.CANCELED)
    delay.go.set()
    while provider.calls(CREATE) > len(provider.state.keys) + 1:
        threading.Event().wait(0.01)
    assert provider.state.sessions == {}
    assert gateway.lookup(payment, 5) is None


def test_a_session_that_is_not_in_the_list_yet_is_not_taken_for_one_that_does_not_exist(
    provider: Provider, gateway: StripeGateway, wait: Callable[[float], None]
) -> None:
    """The provider's lists lag behind, and the key leads nowhere because its stored answer is a failure."""
    payment = new_payment(gateway)
    provider.fault(CREATE, "failed_late")
    with pytest.raises(Unknown):
        gateway.charge(payment, None, 5)
    provider.state.list_lag = 60
    with pytest.raises(Unknown, match="no session for this key yet"):
        gateway.lookup(payment, 5)
    wait(61)
    answer = gateway.lookup(payment, 5)
    assert answer and answer.gateway_reference == provider.session["id"]
