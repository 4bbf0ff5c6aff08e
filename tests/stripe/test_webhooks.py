"""What the provider tells us: signed, once, in any order, and 2xx only when it is safe to forget."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from time import time
from typing import Any

import httpx
import pytest
from sqlalchemy import event as listening
from stripe import WebhookSignature

from app.charges import audit, refunds, rows
from app.charges.rows import Seen
from app.database import Unreachable, db, reading
from app.gateways.base import BadNotice
from app.gateways.choice import choose
from app.gateways.stripe.gateway import StripeGateway
from app.ledger import book
from tests.factories import MUG
from tests.page import Shopper
from tests.shops import Shop
from tests.stripe.provider import payments
from tests.stripe.provider.server import Provider, deliver, signed
from tests.stripe.provider.state import SECRET
from tests.stripe.test_paying import form_of

ENDED = "checkout.session.completed"


@pytest.fixture
def shopper(shop: Shop) -> Shopper:
    """One who was led to the provider's page."""
    shopper = shop.shopper()
    form_of(shopper).post()
    return shopper


@pytest.fixture
def hook(shop: Shop) -> httpx.Client:
    """Where the provider's events arrive from."""
    return shop.shopper().client


def events(shop: Shop) -> list[tuple[str, str]]:
    return [tuple(row) for row in shop.rows("SELECT kind, effect FROM webhook_event ORDER BY id")]


def paid_once(shop: Shop, provider: Provider) -> bool:
    with shop.app.app_context():
        report = audit.audit(shop.app.extensions["gateways"].current.statement(), overdue=60)
    assert report.broken == {}, report
    return shop.charges() == {"succeeded": 1} and len(provider.paid()) == 1


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


def test_return_and_webhook_at_the_same_moment(shop: Shop, provider: Provider) -> None:
    """Fifty times: one success, one posting, the stock taken once."""
    before, rounds = shop.stock(MUG), 50
    for number in range(rounds):
        shopper = shop.shopper()
        session = provider.state.sessions[_session_of(form_of(shopper).fill(email=f"{number}@example.org").post())]
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


def _session_of(answer: httpx.Response) -> str:
    return answer.headers["Location"].rsplit("/", 1)[1]


class TestSignatures:
    @pytest.mark.parametrize(
        "header",
        ["", "t=1", "t=1,v1=", "nonsense", "t=x,v1=y", "v1=abc", "t=99999999999999999999,v1=" + "0" * 64,
         "t=1,v0=" + "a" * 64, "=" * 5000],
    )  # fmt: skip
    def test_what_is_not_signed_is_refused_without_a_look_at_the_storage(
        self, shop: Shop, provider: Provider, hook: httpx.Client, header: str
    ) -> None:
        asked: list[str] = []
        with shop.app.app_context():
            listening.listen(db.engine, "before_cursor_execute", lambda *args: asked.append(args[2]))
        answer = hook.post(
            "/webhooks/stripe", content=b'{"id": "evt_1"}', headers={"Stripe-Signature": header.encode("latin-1")}
        )
        assert (answer.status_code, asked, provider.asked) == (400, [], [])
        assert "Set-Cookie" not in answer.headers

    @pytest.mark.parametrize(("body", "header"), [(b"{}", "t=1,v1=ü"), (b"\xff\xfe", "t=1,v1=" + "0" * 64)])
    def test_letters_that_no_signature_has(self, gateway: StripeGateway, body: bytes, header: str) -> None:
        with pytest.raises(BadNotice):
            gateway.read_webhook(body, header)

    def test_another_secret_another_body_or_an_old_one(
        self, shop: Shop, provider: Provider, shopper: Shopper, hook: httpx.Client
    ) -> None:
        provider.pay()
        told = provider.event(ENDED)
        body, headers = signed(told)
        forged = hook.post("/webhooks/stripe", content=body.replace(b"complete", b"expired "), headers=headers)
        old, old_headers = signed(told, at=int(time()) - 301)
        replayed = hook.post("/webhooks/stripe", content=old, headers=old_headers)
        assert [forged.status_code, replayed.status_code, deliver(hook, told, "whsec_" + "x" * 32)] == [400] * 3
        assert (shop.charges(), events(shop)) == ({"requires_action": 1}, [])

    def test_while_the_secret_is_rolled_both_are_good(
        self, make_shop: Callable[..., Shop], shop: Shop, provider: Provider, shopper: Shopper
    ) -> None:
        new = "whsec_" + "n" * 32
        rolled = make_shop(stripe_webhook_secret=(new, SECRET))
        rolled.app.extensions["gateways"] = choose(rolled.settings())
        provider.pay()
        assert [deliver(rolled.shopper().client, told, secret) for told, secret in (
            (provider.event(ENDED), new), (provider.event("charge.succeeded"), SECRET),
        )] == [200, 200]  # fmt: skip

    def test_bodies_that_are_signed_but_make_no_sense(self, hook: httpx.Client) -> None:
        odd = ["", "[]", "{}", "null", '{"id": 1}', '{"id": "e", "type": "x", "data": {"object": 3}}', "[" * 9000]
        for body in odd:
            header = str(WebhookSignature.generate_signature_header(body, SECRET))
            answer = hook.post("/webhooks/stripe", content=body, headers={"Stripe-Signature": header})
            assert answer.status_code == 400, body

    def test_more_than_any_event_has(self, hook: httpx.Client) -> None:
        assert hook.post("/webhooks/stripe", content=b"x" * (256 * 1024 + 1)).status_code == 413

    def test_only_posts(self, hook: httpx.Client) -> None:
        assert hook.get("/webhooks/stripe").status_code == 405


def test_without_stripe_there_is_no_such_address(make_shop: Callable[..., Shop]) -> None:
    assert make_shop().shopper().client.post("/webhooks/stripe", content=b"{}").status_code == 404


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


class TestAfterwards:
    @pytest.fixture(autouse=True)
    def paid(self, shop: Shop, provider: Provider, shopper: Shopper, hook: httpx.Client) -> None:
        provider.pay()
        assert deliver(hook, provider.event(ENDED)) == 200

    @pytest.fixture
    def charge(self, shop: Shop) -> Seen:
        with shop.app.app_context(), reading() as tx:
            return rows.get(tx, shop.value("SELECT id FROM charge"))

    def test_a_dispute_is_noted(self, shop: Shop, provider: Provider, hook: httpx.Client) -> None:
        payments.dispute(provider.state, provider.paid()[0])
        assert deliver(hook, provider.event("charge.dispute.created")) == 200
        ((note, charge),) = shop.rows("SELECT note, charge_id FROM webhook_event WHERE effect = 'noted'")
        assert (note, charge) == ("dispute needs_response, reason fraudulent", shop.value("SELECT id FROM charge"))
        assert paid_once(shop, provider)

    def test_refunds_made_by_hand_come_into_our_books_once(
        self, shop: Shop, provider: Provider, shopper: Shopper, hook: httpx.Client
    ) -> None:
        provider.refund_by_hand(1000)
        provider.refund_by_hand(400)
        for told in provider.state.events * 2:
            assert deliver(hook, told) == 200
        found = shop.rows("SELECT amount, status, reason FROM refund ORDER BY amount")
        assert [tuple(row) for row in found] == [
            (400, "succeeded", "at_the_gateway"), (1000, "succeeded", "at_the_gateway")
        ]  # fmt: skip
        assert shop.value("SELECT refunded FROM charge") == 1400
        assert paid_once(shop, provider)
        page = shopper.open(provider.session["success_url"])
        assert (page.title.split(":")[0], "−€14.00" in page.text) == ("Refunded in part", True)

    def test_a_refund_told_before_the_payment(
        self, make_shop: Callable[..., Shop], shop: Shop, provider: Provider, hook: httpx.Client
    ) -> None:
        other = shop.shopper()
        session = provider.state.sessions[_session_of(form_of(other).fill(email="b@example.org").post())]
        provider.pay(session)
        charge = provider.paid()[-1]
        payments.refund(provider.state, {"payment_intent": charge["payment_intent"], "amount": 2400})
        assert deliver(hook, provider.event("charge.refunded")) == 200
        assert shop.charges() == {"succeeded": 2}
        assert shop.value("SELECT sum(refunded) FROM charge") == 2400

    def test_our_own_refunds_are_told_back_and_counted_once(
        self, shop: Shop, provider: Provider, hook: httpx.Client, charge: Seen, gateway: StripeGateway
    ) -> None:
        with shop.app.app_context():
            assert refunds.refund(charge, 900, gateway, 2) == "succeeded"
            assert refunds.refund(charge, 1500, gateway, 2) == "succeeded"
            with pytest.raises(refunds.NotRefundable):
                refunds.refund(charge, 1, gateway, 2)
        for told in provider.state.events:
            assert deliver(hook, told) == 200
        assert shop.value("SELECT count(*) FROM refund") == 2
        assert paid_once(shop, provider)

    @pytest.mark.parametrize("kind", ["lost", "unheard", "fell_late", "busy", "in_use", "garbage"])
    def test_a_refund_in_doubt_is_recovered(
        self, shop: Shop, provider: Provider, charge: Seen, gateway: StripeGateway, recover: Callable[..., int],
        kind: str,
    ) -> None:  # fmt: skip
        provider.fault("POST /v1/refunds", kind)
        with shop.app.app_context():
            assert refunds.refund(charge, 900, gateway, 2) == "in_doubt"
        recover()
        assert shop.rows("SELECT status FROM refund") == [("succeeded",)]
        assert [refund["amount"] for refund in provider.state.refunds.values()] == [900]
        assert paid_once(shop, provider)

    def test_by_hand_while_ours_is_on_its_way_comes_again_later(
        self, shop: Shop, provider: Provider, hook: httpx.Client, charge: Seen, gateway: StripeGateway,
        recover: Callable[..., int],
    ) -> None:  # fmt: skip
        provider.fault("POST /v1/refunds", "unheard")
        with shop.app.app_context():
            assert refunds.refund(charge, 2000, gateway, 2) == "in_doubt"
        provider.refund_by_hand(2400)
        assert deliver(hook, provider.event("charge.refunded")) == 503
        recover()
        assert shop.rows("SELECT status, reason FROM refund") == [("declined", "not_enough_left")]
        assert deliver(hook, provider.event("charge.refunded")) == 200
        assert shop.value("SELECT refunded FROM charge") == 2400
        assert paid_once(shop, provider)


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
        report = audit.audit(shop.app.extensions["gateways"].current.statement(), overdue=60)
    assert (report.broken, len(report.stray)) == ({}, 1)


def test_a_flood_of_bad_signatures_is_cheap(shop: Shop, hook: httpx.Client) -> None:
    """Thousands a second, where a page takes milliseconds: without templates, sessions or storage."""
    body, headers = json.dumps({"id": "evt_1", "x": "y" * 3000}).encode(), {"Stripe-Signature": "t=1,v1=" + "0" * 64}
    began, rounds = time(), 300
    for _ in range(rounds):
        assert hook.post("/webhooks/stripe", content=body, headers=headers).status_code == 400
    assert (time() - began) / rounds < 0.02
