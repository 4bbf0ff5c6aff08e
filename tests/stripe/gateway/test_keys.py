"""The edges of the provider's keys: lost answers, and keys that are replayed, in use, misused and forgotten."""

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
from tests.stripe.gateway.asking import CREATE, LIST, WINDOW, payment
from tests.stripe.provider.server import Provider
from tests.stripe.provider.state import API_KEY


@pytest.mark.parametrize("kind", ["lost", "unheard", "fell_late", "fell", "busy", "in_use", "garbage"])
def test_no_answer_to_the_making_is_doubt_and_recovery_finds_the_one_session(
    provider: Provider, gateway: StripeGateway, wait: Callable[[float], None], kind: str
) -> None:
    provider.fault(CREATE, kind)
    made = payment(gateway)
    with pytest.raises(Unknown):
        gateway.charge(made, None, 5)
    if kind == "fell":
        with pytest.raises(Unknown, match="no session for this key yet"):
            gateway.lookup(made, 5)
        wait(WINDOW + 2 * requests.SLACK + 1)
        assert gateway.lookup(made, 5) is None
        assert gateway.cancel(made, 5).outcome is Outcome.CANCELED
        assert provider.state.sessions == {}
        return
    answer = gateway.lookup(made, 5)
    assert answer and answer.outcome is Outcome.REQUIRES_ACTION
    assert answer.action_url == provider.session["url"]


def test_a_provider_that_is_not_there_took_nothing(provider: Provider) -> None:
    nowhere = StripeGateway(API_KEY, window=WINDOW, api_base="http://127.0.0.1:9", page_origin="http://127.0.0.1:9")
    with pytest.raises(NotSent):
        nowhere.charge(payment(nowhere), None, 2)


def test_the_library_never_tries_again_by_itself(provider: Provider, gateway: StripeGateway) -> None:
    for kind in ("fell", "busy", "in_use", "lost"):
        provider.fault(CREATE, kind)
        before = len(provider.asked)
        with pytest.raises(Unknown):
            gateway.charge(payment(gateway), None, 5)
        assert len(provider.asked) == before + 1


def test_a_dripping_provider_cannot_hold_us_beyond_the_deadline(provider: Provider, gateway: StripeGateway) -> None:
    fault = provider.fault(CREATE, "held")  # Until we say so, below.
    with pytest.raises(Unknown, match="in time"):
        gateway.charge(payment(gateway), None, 0.3)
    fault.go.set()


def test_asking_again_helps_after_a_failure_but_not_after_a_remembered_one(
    provider: Provider, gateway: StripeGateway
) -> None:
    provider.fault(CREATE, "fell")
    made = payment(gateway)
    with pytest.raises(Unknown) as fresh:
        gateway.charge(made, None, 5)
    with pytest.raises(Unknown) as replayed:
        gateway.charge(made, None, 5)
    provider.fault(CREATE, "busy")
    with pytest.raises(Unknown) as busy:
        gateway.charge(payment(gateway), None, 5)
    assert (fresh.value.again, replayed.value.again, busy.value.again) == (True, False, False)


def test_twins_of_one_request_make_one_session(provider: Provider, gateway: StripeGateway) -> None:
    made = payment(gateway)
    slow = provider.fault(CREATE, "slow")
    with ThreadPoolExecutor() as pool:
        first = pool.submit(gateway.charge, made, None, 5)
        assert slow.reached.wait(5)
        with pytest.raises(Unknown, match="409") as twin:
            gateway.charge(made, None, 5)
        slow.go.set()
        assert (
            first.result().gateway_reference
            == gateway.charge(made, None, 5).gateway_reference
            == provider.session["id"]
        )
    assert twin.value.again


def test_the_same_key_with_another_request_is_doubt(provider: Provider, gateway: StripeGateway) -> None:
    made = payment(gateway)
    gateway.charge(made, None, 5)
    assert made.gateway_request is not None
    other = replace(
        made,
        gateway_request={
            **made.gateway_request,
            "params": {**made.gateway_request["params"], "cancel_url": "http://x/"},
        },
    )
    with pytest.raises(Unknown, match="idempotency_error") as refusal:
        gateway.charge(other, None, 5)
    assert not refusal.value.again


def test_the_request_is_repeated_as_it_was_stored_not_as_it_would_be_made_now(
    provider: Provider, gateway: StripeGateway
) -> None:
    """Claimed ten minutes ago, by a shop with other words and an earlier version of the library."""
    made = payment(gateway)
    assert made.gateway_request is not None
    params = {**made.gateway_request["params"], "expires_at": made.gateway_request["params"]["expires_at"] - 600}
    kept = replace(
        made, gateway_request={**made.gateway_request, "made": made.gateway_request["made"] - 600, "params": params}
    )
    gateway.charge(kept, None, 5)
    gateway.lookup(kept, 5)
    first, again = (asked for asked in provider.asked if asked.method == "POST")
    assert first == again
    assert first.params["expires_at"] == str(params["expires_at"])
    assert set(first.params) == set(params)


def test_the_request_is_repeated_under_the_version_that_it_was_written_for() -> None:
    seen: list[str] = []

    def hears(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["Stripe-Version"])
        return httpx.Response(500, json={})

    transport = httpx.MockTransport(hears)
    gateway = StripeGateway(API_KEY, window=WINDOW, api_base="http://p", page_origin="http://p", transport=transport)
    made = payment(gateway)
    for ask in (gateway.lookup, gateway.cancel):
        with pytest.raises(Unknown):
            ask(replace(made, gateway_request={**(made.gateway_request or {}), "version": "2020-08-27"}), 5)
    assert seen == ["2020-08-27"] * 2


def test_a_replay_is_a_memory_so_lookup_reads_the_session_as_it_is(provider: Provider, gateway: StripeGateway) -> None:
    made = payment(gateway)
    gateway.charge(made, None, 5)
    provider.pay()
    answer = gateway.lookup(made, 5)
    assert answer and answer.outcome is Outcome.SUCCEEDED
    assert len(provider.state.sessions) == 1


def test_beyond_the_providers_memory_the_list_is_searched_and_nothing_made(
    provider: Provider, gateway: StripeGateway, wait: Callable[[float], None]
) -> None:
    mine = payment(gateway)
    gateway.charge(mine, None, 5)
    provider.pay()
    for _ in range(120):
        gateway.charge(payment(gateway), None, 5)
    wait(25 * 3600)
    before = provider.calls(CREATE)
    answer = gateway.lookup(mine, 5)
    assert answer and answer.outcome is Outcome.SUCCEEDED
    assert (provider.calls(CREATE), provider.calls(LIST)) == (before, 2 + 1)
    assert gateway.lookup(payment_of_another_day(mine), 5) is None
    assert provider.calls(CREATE) == before


def payment_of_another_day(mine: Payment) -> Payment:
    """As old, and never sent."""
    return replace(mine, key=str(uuid4()))


def test_a_request_held_back_for_a_day_can_make_nothing(
    provider: Provider, gateway: StripeGateway, wait: Callable[[float], None]
) -> None:
    made = payment(gateway)
    held = provider.fault(CREATE, "held")
    with pytest.raises(Unknown):
        gateway.charge(made, None, 0.2)
    wait(WINDOW + 2 * requests.SLACK + 1)
    assert gateway.lookup(made, 5) is None
    assert gateway.cancel(made, 5) == Answer(Outcome.CANCELED)
    held.go.set()
    while provider.calls(CREATE) > len(provider.state.keys) + 1:
        threading.Event().wait(0.01)
    assert provider.state.sessions == {}
    assert gateway.lookup(made, 5) is None
