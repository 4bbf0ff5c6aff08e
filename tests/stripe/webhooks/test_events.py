"""Events about payments: processed once, in any order, and answered with 2xx only when everything is stored."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import httpx
import pytest

from app.charges import audit
from app.database import Unreachable
from app.ledger import book
from app.webhooks import receive
from tests.factories import MUG
from tests.page import Shopper
from tests.places import all_taken
from tests.shops import Shop
from tests.stripe.provider.server import Provider, deliver
from tests.stripe.test_paying import form_of
from tests.stripe.webhooks.effects import COMPLETED, events, paid_once, session_id_of


def test_an_event_completes_a_payment_without_the_shopper(
    shop: Shop, provider: Provider, shopper: Shopper, hook: httpx.Client
) -> None:
    provider.pay()
    assert deliver(hook, provider.event(COMPLETED)) == 200
    assert paid_once(shop, provider)
    assert events(shop) == [(COMPLETED, "recorded")]
    assert shopper.open(provider.session["success_url"]).title.startswith("Paid")


def test_events_may_come_twice_late_and_in_any_order(
    shop: Shop, provider: Provider, shopper: Shopper, hook: httpx.Client
) -> None:
    provider.pay(number="4000000000000002")
    provider.pay()
    for event in [*reversed(provider.state.events), *provider.state.events]:
        assert deliver(hook, event) == 200
    assert paid_once(shop, provider)
    assert len(events(shop)) == len(provider.state.events)


def test_a_repeated_event_does_not_ask_the_provider(
    shop: Shop, provider: Provider, shopper: Shopper, hook: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its effects are not repeated either if the copy was looked up before the first one was stored."""
    provider.pay()
    assert deliver(hook, provider.event(COMPLETED)) == 200
    before = len(provider.requests)
    assert deliver(hook, provider.event(COMPLETED)) == 200
    assert len(provider.requests) == before
    repeated: list[object] = []
    monkeypatch.setattr(receive, "_stored_effect", lambda *_: None)
    monkeypatch.setattr(receive.present, "record", lambda *args: repeated.append(args))
    assert deliver(hook, provider.event(COMPLETED)) == 200
    assert (repeated, len(events(shop))) == ([], 1)


def test_an_outdated_event_does_not_override_the_present_state(
    shop: Shop, provider: Provider, shopper: Shopper, hook: httpx.Client
) -> None:
    """The event says "expired", but the session is paid now."""
    outdated = {**provider.session, "status": "expired"}
    provider.state.add_event("checkout.session.expired", outdated)
    provider.pay()
    assert deliver(hook, provider.event("checkout.session.expired")) == 200
    assert paid_once(shop, provider)


def test_an_event_about_an_open_session_changes_nothing(
    shop: Shop, provider: Provider, shopper: Shopper, hook: httpx.Client
) -> None:
    provider.state.add_event(COMPLETED, provider.session)
    assert deliver(hook, provider.event(COMPLETED)) == 200
    assert shop.charges() == {"requires_action": 1}


def test_an_expired_session_opens_the_order_again(
    shop: Shop, provider: Provider, shopper: Shopper, hook: httpx.Client
) -> None:
    before = shop.stock(MUG)
    with provider.state.lock:
        provider.state.expire(provider.session)
    assert deliver(hook, provider.event("checkout.session.expired")) == 200
    assert (shop.charges(), shop.stock(MUG)) == ({"canceled": 1}, before + 1)


@pytest.mark.slow
def test_the_shoppers_return_and_two_copies_of_an_event_at_once(shop: Shop, provider: Provider) -> None:
    """In each of fifty rounds there is one success, one posting, and the stock is taken once."""
    before, rounds = shop.stock(MUG), 50
    for number in range(rounds):
        shopper = shop.shopper()
        session = provider.state.sessions[session_id_of(form_of(shopper).fill(email=f"{number}@example.org").post())]
        provider.pay(session)
        event = provider.event(COMPLETED)
        barrier = Barrier(3)

        def run(act: Callable[[], Any], barrier: Barrier = barrier) -> Any:
            barrier.wait()
            return act()

        with ThreadPoolExecutor(3) as pool:
            acts: list[Callable[[], Any]] = [
                lambda s=shopper, url=session["success_url"]: s.open(url).title,
                lambda e=event: deliver(shop.shopper().client, e),
                lambda e=event: deliver(shop.shopper().client, e),
            ]  # type: ignore[misc]
            page, *answers = pool.map(run, acts)
        assert page.startswith("Paid") and answers == [200, 200]
    assert shop.charges() == {"succeeded": rounds}
    assert shop.value("SELECT count(*) FROM ledger_entry") == 2 * rounds
    assert shop.stock(MUG) == before - rounds
    assert len(provider.paid()) == rounds == len(events(shop))


def test_an_event_is_stored_only_after_the_provider_could_be_asked(
    shop: Shop, provider: Provider, shopper: Shopper, hook: httpx.Client
) -> None:
    provider.pay()
    for kind in ("not_received", "rate_limited", "failed", "garbage"):
        provider.fault("GET /v1/checkout/sessions/", kind)
        assert deliver(hook, provider.event(COMPLETED)) == 503
    assert (shop.charges(), events(shop)) == ({"requires_action": 1}, [])
    assert deliver(hook, provider.event(COMPLETED)) == 200
    assert paid_once(shop, provider)


def test_an_event_that_gets_no_place_at_the_gateway_must_be_sent_again(
    shop: Shop, provider: Provider, shopper: Shopper, hook: httpx.Client
) -> None:
    provider.pay()
    with all_taken(shop):
        assert deliver(hook, provider.event(COMPLETED)) == 503
    assert (shop.charges(), events(shop)) == ({"requires_action": 1}, [])
    assert deliver(hook, provider.event(COMPLETED)) == 200
    assert paid_once(shop, provider)


def test_an_event_is_stored_together_with_its_effect(
    shop: Shop, provider: Provider, shopper: Shopper, hook: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise Unreachable("the connection broke")

    provider.pay()
    with monkeypatch.context() as patch:
        patch.setattr(book, "post", fail)
        assert deliver(hook, provider.event(COMPLETED)) == 503
    assert (shop.charges(), events(shop)) == ({"requires_action": 1}, [])
    assert deliver(hook, provider.event(COMPLETED)) == 200
    assert paid_once(shop, provider)


@pytest.mark.parametrize("kind", ["customer.created", "payout.paid", "v2.something", "charge.succeeded"])
def test_an_event_of_another_kind_is_stored_and_ignored(
    shop: Shop, provider: Provider, hook: httpx.Client, kind: str
) -> None:
    provider.state.add_event(kind, {"id": "x_1", "object": "x"})
    assert [deliver(hook, provider.event(kind)) for _ in range(2)] == [200, 200]
    assert (events(shop), provider.requests) == ([(kind, "ignored")], [])


@pytest.mark.parametrize("key", [None, "not a key", "0b0e7c52-8a55-4a3c-9d31-0f54a6b5b5d1"])
def test_a_foreign_payment_on_the_same_account_is_stored_and_ignored(
    shop: Shop, provider: Provider, shopper: Shopper, hook: httpx.Client, key: str | None
) -> None:
    foreign = {
        "id": "cs_test_foreign",
        "object": "checkout.session",
        "metadata": {"payonce_charge": key} if key else None,
    }
    provider.state.add_event(COMPLETED, foreign)
    assert deliver(hook, provider.event(COMPLETED)) == 200
    assert (events(shop), shop.charges()) == ([(COMPLETED, "foreign")], {"requires_action": 1})


def test_a_test_shop_ignores_an_event_of_live_mode(
    shop: Shop, provider: Provider, shopper: Shopper, hook: httpx.Client
) -> None:
    provider.pay()
    assert deliver(hook, {**provider.event(COMPLETED), "livemode": True}) == 200
    assert (events(shop), shop.charges()) == ([(COMPLETED, "ignored")], {"requires_action": 1})


def test_a_stray_payment_is_refunded(
    shop: Shop, provider: Provider, shopper: Shopper, hook: httpx.Client, recover: Callable[..., int]
) -> None:
    """The charge is canceled in the books, but it was paid. Its refund has a key of its own."""
    shop.execute("UPDATE charge SET status = 'canceled', ended_at = created_at")
    shop.execute("UPDATE orders SET state = 'open'")
    shop.execute("UPDATE product SET stock = stocked WHERE slug = :slug", slug=MUG)
    provider.pay()
    assert deliver(hook, provider.event(COMPLETED)) == 200
    assert shop.rows("SELECT status, stray FROM refund") in ([("processing", True)], [("processing", 1)])
    recover()
    assert shop.rows("SELECT status FROM refund") == [("succeeded",)]
    with shop.app.app_context():
        report = audit.audit(shop.gateways.current.statement(), overdue=60)
    assert (report.broken, len(report.stray)) == ({}, 1)
