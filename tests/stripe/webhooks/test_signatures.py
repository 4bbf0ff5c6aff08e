"""Only an event with a valid and recent signature is read."""

import json
from collections.abc import Callable
from time import time

import httpx
import pytest
from sqlalchemy import event as sqlalchemy_event
from stripe import WebhookSignature

from app.database import db
from app.gateways.base import BadEvent
from app.gateways.registry import from_settings
from app.gateways.stripe.gateway import StripeGateway
from tests.page import Shopper
from tests.shops import Shop
from tests.stripe.provider.server import Provider, deliver, signed
from tests.stripe.provider.state import SECRET
from tests.stripe.webhooks.effects import COMPLETED, events


@pytest.mark.parametrize(
    "header",
    ["", "t=1", "t=1,v1=", "nonsense", "t=x,v1=y", "v1=abc", "t=99999999999999999999,v1=" + "0" * 64,
     "t=1,v0=" + "a" * 64, "=" * 5000],
)  # fmt: skip
def test_an_event_without_a_valid_signature_is_refused_without_a_query(
    shop: Shop, provider: Provider, hook: httpx.Client, header: str
) -> None:
    """Everything else about the event is valid."""
    provider.state.add_event("customer.created", {"id": "cus_1", "object": "customer"})
    body, _ = signed(provider.event("customer.created"))
    statements: list[str] = []
    with shop.app.app_context():
        sqlalchemy_event.listen(db.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    answer = hook.post("/webhooks/stripe", content=body, headers={"Stripe-Signature": header.encode("latin-1")})
    assert (answer.status_code, statements, provider.requests) == (400, [], [])
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(("body", "header"), [(b"{}", "t=1,v1=ü"), (b"\xff\xfe", "t=1,v1=" + "0" * 64)])
def test_characters_that_no_signature_has(gateway: StripeGateway, body: bytes, header: str) -> None:
    with pytest.raises(BadEvent):
        gateway.read_event(body, {"Stripe-Signature": header})


def test_another_secret_another_body_and_an_old_signature_are_refused(
    shop: Shop, provider: Provider, shopper: Shopper, hook: httpx.Client
) -> None:
    provider.pay()
    event = provider.event(COMPLETED)
    body, headers = signed(event)
    forged = hook.post("/webhooks/stripe", content=body.replace(b"complete", b"expired "), headers=headers)
    old, old_headers = signed(event, at=int(time()) - 301)
    replayed = hook.post("/webhooks/stripe", content=old, headers=old_headers)
    assert [forged.status_code, replayed.status_code, deliver(hook, event, "whsec_" + "x" * 32)] == [400] * 3
    assert (shop.charges(), events(shop)) == ({"requires_action": 1}, [])


def test_both_secrets_are_valid_while_the_secret_is_rolled(
    make_shop: Callable[..., Shop], shop: Shop, provider: Provider, shopper: Shopper
) -> None:
    new = "whsec_" + "n" * 32
    rolled = make_shop(stripe_webhook_secret=(new, SECRET))
    rolled.gateways.use_all(from_settings(rolled.settings()))
    provider.pay()
    assert [deliver(rolled.shopper().client, event, secret) for event, secret in (
        (provider.event(COMPLETED), new), (provider.event("charge.succeeded"), SECRET),
    )] == [200, 200]  # fmt: skip


def test_a_signed_body_that_is_not_an_event_is_refused(hook: httpx.Client) -> None:
    bodies = ["", "[]", "{}", "null", '{"id": 1}', '{"id": "e", "type": "x", "data": {"object": 3}}', "[" * 9000]
    for body in bodies:
        header = str(WebhookSignature.generate_signature_header(body, SECRET))
        answer = hook.post("/webhooks/stripe", content=body, headers={"Stripe-Signature": header})
        assert answer.status_code == 400, body


def test_a_body_larger_than_any_event_is_refused(hook: httpx.Client) -> None:
    assert hook.post("/webhooks/stripe", content=b"x" * (256 * 1024 + 1)).status_code == 413


def test_only_post_is_allowed(hook: httpx.Client) -> None:
    assert hook.get("/webhooks/stripe").status_code == 405


def test_a_flood_of_bad_signatures_is_cheap(shop: Shop, hook: httpx.Client) -> None:
    """They need no template, no session and no database, so one process refuses thousands per second."""
    body, headers = json.dumps({"id": "evt_1", "x": "y" * 3000}).encode(), {"Stripe-Signature": "t=1,v1=" + "0" * 64}
    began, rounds = time(), 300
    for _ in range(rounds):
        assert hook.post("/webhooks/stripe", content=body, headers=headers).status_code == 400
    assert (time() - began) / rounds < 0.02


def test_without_stripe_the_endpoint_does_not_exist(make_shop: Callable[..., Shop]) -> None:
    assert make_shop().shopper().client.post("/webhooks/stripe", content=b"{}").status_code == 404
