"""Only what the provider signed, a moment ago, is read at all."""

import json
from collections.abc import Callable
from time import time

import httpx
import pytest
from sqlalchemy import event as listening
from stripe import WebhookSignature

from app.database import db
from app.gateways.base import BadEvent
from app.gateways.registry import from_settings
from app.gateways.stripe.gateway import StripeGateway
from tests.page import Shopper
from tests.shops import Shop
from tests.stripe.provider.server import Provider, deliver, signed
from tests.stripe.provider.state import SECRET
from tests.stripe.webhooks.hearing import ENDED, events


@pytest.mark.parametrize(
    "header",
    ["", "t=1", "t=1,v1=", "nonsense", "t=x,v1=y", "v1=abc", "t=99999999999999999999,v1=" + "0" * 64,
     "t=1,v0=" + "a" * 64, "=" * 5000],
)  # fmt: skip
def test_what_is_not_signed_is_refused_without_a_look_at_the_storage(
    shop: Shop, provider: Provider, hook: httpx.Client, header: str
) -> None:
    """Though all else about it is in order."""
    provider.state.tell("customer.created", {"id": "cus_1", "object": "customer"})
    body, _ = signed(provider.event("customer.created"))
    asked: list[str] = []
    with shop.app.app_context():
        listening.listen(db.engine, "before_cursor_execute", lambda *args: asked.append(args[2]))
    answer = hook.post("/webhooks/stripe", content=body, headers={"Stripe-Signature": header.encode("latin-1")})
    assert (answer.status_code, asked, provider.asked) == (400, [], [])
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(("body", "header"), [(b"{}", "t=1,v1=ü"), (b"\xff\xfe", "t=1,v1=" + "0" * 64)])
def test_letters_that_no_signature_has(gateway: StripeGateway, body: bytes, header: str) -> None:
    with pytest.raises(BadEvent):
        gateway.read_event(body, {"Stripe-Signature": header})


def test_another_secret_another_body_or_an_old_one(
    shop: Shop, provider: Provider, shopper: Shopper, hook: httpx.Client
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
    make_shop: Callable[..., Shop], shop: Shop, provider: Provider, shopper: Shopper
) -> None:
    new = "whsec_" + "n" * 32
    rolled = make_shop(stripe_webhook_secret=(new, SECRET))
    rolled.gateways.use_all(from_settings(rolled.settings()))
    provider.pay()
    assert [deliver(rolled.shopper().client, told, secret) for told, secret in (
        (provider.event(ENDED), new), (provider.event("charge.succeeded"), SECRET),
    )] == [200, 200]  # fmt: skip


def test_bodies_that_are_signed_but_make_no_sense(hook: httpx.Client) -> None:
    odd = ["", "[]", "{}", "null", '{"id": 1}', '{"id": "e", "type": "x", "data": {"object": 3}}', "[" * 9000]
    for body in odd:
        header = str(WebhookSignature.generate_signature_header(body, SECRET))
        answer = hook.post("/webhooks/stripe", content=body, headers={"Stripe-Signature": header})
        assert answer.status_code == 400, body


def test_more_than_any_event_has(hook: httpx.Client) -> None:
    assert hook.post("/webhooks/stripe", content=b"x" * (256 * 1024 + 1)).status_code == 413


def test_only_posts(hook: httpx.Client) -> None:
    assert hook.get("/webhooks/stripe").status_code == 405


def test_a_flood_of_bad_signatures_is_cheap(shop: Shop, hook: httpx.Client) -> None:
    """Thousands a second, where a page takes milliseconds: without templates, sessions or storage."""
    body, headers = json.dumps({"id": "evt_1", "x": "y" * 3000}).encode(), {"Stripe-Signature": "t=1,v1=" + "0" * 64}
    began, rounds = time(), 300
    for _ in range(rounds):
        assert hook.post("/webhooks/stripe", content=body, headers=headers).status_code == 400
    assert (time() - began) / rounds < 0.02


def test_without_stripe_there_is_no_such_address(make_shop: Callable[..., Shop]) -> None:
    assert make_shop().shopper().client.post("/webhooks/stripe", content=b"{}").status_code == 404
