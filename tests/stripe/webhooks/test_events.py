"""What the provider tells us: once, in any order, and 2xx only when it is safe to forget."""

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
from tests.shops import Shop
from tests.stripe.provider.server import Provider, deliver
from tests.stripe.test_paying import form_of
from tests.stripe.webhooks.hearing import ENDED, events, paid_once, session_of


def test_a_webhook_finishes_what_the_shopper_left(
    shop: Shop, provider: Provider, shopper: Shopper, hook: httpx.Client
) -> None:
    provider.pay()
    assert deliver(hook, provider.event(ENDED)) == 200
    assert paid_once(shop, provider)
    assert events(shop) == [(ENDED, "recorded")]
    assert shopper.open(provider.session["success_url"]).title.startswith("Paid")


def test_doubled_late_and_in_any_order(shop: Shop, provider: Provider, shopper: Shopper, hook: httpx.Client) -> None:
    provider.pay(number="4000000000000002")
    provider.pay()
    for told in [*reversed(provider.state.events), *provider.state.events]:
        assert deliver(hook, told) == 200
    assert paid_once(shop, provider)
    assert len(events(shop)) == len(provider.state.events)


def test_a_repeated_event_asks_nobody(
    shop: Shop, provider: Provider, shopper: Shopper, hook: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is it followed again by a twin that looked for it before the first was stored."""
    provider.pay()
    assert deliver(hook, provider.event(ENDED)) == 200
    asked = len(provider.asked)
    assert deliver(hook, provider.event(ENDED)) == 200
    assert len(provider.asked) == asked
    followed: list[object] = []
    monkeypatch.setattr(receive, "_stored_effect", lambda *_: None)
    monkeypatch.setattr(receive, "_follow", lambda *given: followed.append(given))
    assert deliver(hook, provider.event(ENDED)) == 200
    assert (followed, len(events(shop))) == ([], 1)


def test_an_end_that_was_told_before_it_was_paid_is_read_anew(
    shop: Shop, provider: Provider, shopper: Shopper, hook: httpx.Client
) -> None:
    """An event says "expired", but the session is paid: what is so now counts."""
    lie = {**provider.session, "status": "expired"}
    provider.state.tell("checkout.session.expired", lie)
    provider.pay()
    assert deliver(hook, provider.event("checkout.session.expired")) == 200
    assert paid_once(shop, provider)


def test_a_session_that_is_still_open_changes_nothing(
    shop: Shop, provider: Provider, shopper: Shopper, hook: httpx.Client
) -> None:
    provider.state.tell(ENDED, provider.session)
    assert deliver(hook, provider.event(ENDED)) == 200
    assert shop.charges() == {"requires_action": 1}


def test_expired_opens_the_order(shop: Shop, provider: Provider, shopper: Shopper, hook: httpx.Client) -> None:
    before = shop.stock(MUG)
    with provider.state.lock:
        provider.state.end(provider.session)
    assert deliver(hook, provider.event("checkout.session.expired")) == 200
    assert (shop.charges(), shop.stock(MUG)) == ({"canceled": 1}, before + 1)


@pytest.mark.slow
def test_return_and_webhook_at_the_same_moment(shop: Shop, provider: Provider) -> None:
    """Fifty times: one success, one posting, the stock taken once."""
    before, rounds = shop.stock(MUG), 50
    for number in range(rounds):
        shopper = shop.shopper()
        session = provider.state.sessions[session_of(form_of(shopper).fill(email=f"{number}@example.org").post())]
        provider.pay(session)
        told = provider.event(ENDED)
        together = Barrier(3)

        def meet(act: Callable[[], Any], together: Barrier = together) -> Any:
            together.wait()
            return act()

        with ThreadPoolExecutor(3) as pool:
            ways: list[Callable[[], Any]] = [
                lambda s=shopper, url=session["success_url"]: s.open(url).title,
                lambda e=told: deliver(shop.shopper().client, e),
                lambda e=told: deliver(shop.shopper().client, e),
            ]  # type: ignore[misc]
            page, *answers = pool.map(meet, ways)
        assert page.startswith("Paid") and answers == [200, 200]
    assert shop.charges() == {"succeeded": rounds}
    assert shop.value("SELECT count(*) FROM ledger_entry") == 2 * rounds
    assert shop.stock(MUG) == before - rounds
    assert len(provider.paid()) == rounds == len(events(shop))


def test_while_the_provider_cannot_be_asked_the_event_comes_again(
    shop: Shop, provider: Provider, shopper: Shopper, hook: httpx.Client
) -> None:
    provider.pay()
    for kind in ("unheard", "busy", "fell", "garbage"):
        provider.fault("GET /v1/checkout/sessions/", kind)
        assert deliver(hook, provider.event(ENDED)) == 503
    assert (shop.charges(), events(shop)) == ({"requires_action": 1}, [])
    assert deliver(hook, provider.event(ENDED)) == 200
    assert paid_once(shop, provider)


def test_an_event_is_stored_with_its_effect_or_not_at_all(
    shop: Shop, provider: Provider, shopper: Shopper, hook: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise Unreachable("cut")

    provider.pay()
    with monkeypatch.context() as patch:
        patch.setattr(book, "post", away)
        assert deliver(hook, provider.event(ENDED)) == 503
    assert (shop.charges(), events(shop)) == ({"requires_action": 1}, [])
    assert deliver(hook, provider.event(ENDED)) == 200
    assert paid_once(shop, provider)


@pytest.mark.parametrize("kind", ["customer.created", "payout.paid", "v2.something", "charge.succeeded"])
def test_kinds_of_no_concern_are_stored_and_forgotten(
    shop: Shop, provider: Provider, hook: httpx.Client, kind: str
) -> None:
    provider.state.tell(kind, {"id": "x_1", "object": "x"})
    assert [deliver(hook, provider.event(kind)) for _ in range(2)] == [200, 200]
    assert (events(shop), provider.asked) == ([(kind, "ignored")], [])


@pytest.mark.parametrize("key", [None, "not a key", "0b0e7c52-8a55-4a3c-9d31-0f54a6b5b5d1"])
def test_payments_of_others_on_the_same_account(
    shop: Shop, provider: Provider, shopper: Shopper, hook: httpx.Client, key: str | None
) -> None:
    foreign = {
        "id": "cs_test_foreign",
        "object": "checkout.session",
        "metadata": {"payonce_charge": key} if key else None,
    }
    provider.state.tell(ENDED, foreign)
    assert deliver(hook, provider.event(ENDED)) == 200
    assert (events(shop), shop.charges()) == ([(ENDED, "foreign")], {"requires_action": 1})


def test_an_event_of_live_mode_says_nothing_to_a_test_shop(
    shop: Shop, provider: Provider, shopper: Shopper, hook: httpx.Client
) -> None:
    provider.pay()
    assert deliver(hook, {**provider.event(ENDED), "livemode": True}) == 200
    assert (events(shop), shop.charges()) == ([(ENDED, "ignored")], {"requires_action": 1})


def test_money_for_a_charge_that_had_ended_is_owed_back(
    shop: Shop, provider: Provider, shopper: Shopper, hook: httpx.Client, recover: Callable[..., int]
) -> None:
    """Our books say canceled, and yet it was paid: never silent, and given back under a key of its own."""
    shop.execute("UPDATE charge SET status = 'canceled', ended_at = created_at")
    shop.execute("UPDATE orders SET state = 'open'")
    shop.execute("UPDATE product SET stock = stocked WHERE slug = :slug", slug=MUG)
    provider.pay()
    assert deliver(hook, provider.event(ENDED)) == 200
    assert shop.rows("SELECT status, stray FROM refund") in ([("processing", True)], [("processing", 1)])
    recover()
    assert shop.rows("SELECT status FROM refund") == [("succeeded",)]
    with shop.app.app_context():
        report = audit.audit(shop.gateways.current.statement(), overdue=60)
    assert (report.broken, len(report.stray)) == ({}, 1)
