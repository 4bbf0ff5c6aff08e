"""Our stand-in and our requests against the types that the provider's own library declares."""

import re
import sys
import typing
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import stripe
from stripe.params import RefundCreateParams, RefundListParams
from stripe.params._charge_list_params import ChargeListParams
from stripe.params.checkout import SessionCreateParams, SessionListParams

from app.gateways.base import EventSubject, GatewayEvent, RefundRequest
from app.gateways.stripe import gateway as module
from app.gateways.stripe.gateway import StripeGateway
from app.gateways.stripe.requests import prepare
from tests.stripe.gateway.asking import charged, payment, sale
from tests.stripe.provider import payments
from tests.stripe.provider.server import Provider
from tests.stripe.provider.state import API_KEY


def strangers(value: Any, declared: type | None, path: str = "") -> Iterator[str]:
    """Where `value` has a field that the declared type has not. What is declared free (metadata) may have any."""
    if isinstance(value, list):
        for each in value:
            yield from strangers(each, declared, path)
    elif isinstance(value, dict) and declared is not None:
        for name, inner in value.items():
            if name in declared.__annotations__:
                yield from strangers(inner, _type_of(declared, name), f"{path}{name}.")
            else:
                yield path + name


def _type_of(declared: type, name: str) -> type | None:
    """The type with fields of its own that a field is declared to hold, by its name in the declaration."""
    words = re.findall(r"\w+Params\w+", str(declared.__annotations__[name]))
    found = (getattr(sys.modules[declared.__module__], word, None) for word in words)
    return next((each for each in found if each is not None), None)


def test_the_check_itself_sees_a_stranger() -> None:
    request = prepare(sale(), version="v", live=False, window=3600)["params"]
    assert list(strangers({**request, "nonsense": 1}, SessionCreateParams)) == ["nonsense"]
    deep = {**request, "line_items": [{"quantity": 1, "price_data": {"currency": "eur", "odd": 1}}]}
    assert list(strangers(deep, SessionCreateParams)) == ["line_items.price_data.odd"]


def test_what_we_send_is_declared() -> None:
    request = prepare(sale(), version="v", live=False, window=3600)["params"]
    assert list(strangers(request, SessionCreateParams)) == []


@pytest.mark.parametrize("name", ["charges", "refunds", "sessions", "refund"])
def test_what_we_ask_for_is_declared(provider: Provider, name: str) -> None:
    gateway = StripeGateway(API_KEY, window=3600, api_base=provider.origin, page_origin=provider.origin)
    paid = charged(gateway, payment(gateway))
    provider.pay()
    gateway.refund(RefundRequest("r", 100, paid), 5)
    list(gateway.statement())
    gateway.key_of(_notice(provider), 5)
    types = {
        "charges": ("GET", "/v1/charges", ChargeListParams),
        "refunds": ("GET", "/v1/refunds", RefundListParams),
        "sessions": ("GET", "/v1/checkout/sessions", SessionListParams),
        "refund": ("POST", "/v1/refunds", RefundCreateParams),
    }
    method, path, declared = types[name]
    asked = [params for how, where, _, params in provider.asked if (how, where) == (method, path)]
    assert asked
    assert [list(strangers(params, declared)) for params in asked] == [[]] * len(asked)


def _notice(provider: Provider) -> GatewayEvent:
    intent = provider.session["payment_intent"]
    return GatewayEvent(
        "e", "charge.dispute.created", EventSubject.DISPUTE, datetime.now(UTC), gateway_reference=intent
    )


def test_what_our_stand_in_answers_is_declared(provider: Provider) -> None:
    gateway = StripeGateway(API_KEY, window=3600, api_base=provider.origin, page_origin=provider.origin)
    charged(gateway, payment(gateway))
    provider.pay()
    refund = provider.refund_by_hand(100)
    (charge,) = provider.paid()
    intent = provider.state.intents[charge["payment_intent"]]
    dispute = payments.dispute(provider.state, charge)
    for answered, declared in (
        (provider.session, stripe.checkout.Session), (charge, stripe.Charge), (refund, stripe.Refund),
        (intent, stripe.PaymentIntent), (dispute, stripe.Dispute), (provider.state.events[0], stripe.Event),
    ):  # fmt: skip
        fields = {name for cls in declared.__mro__ for name in getattr(cls, "__annotations__", {})}
        assert set(answered) <= fields, (declared, set(answered) - fields)
    kinds = set(typing.get_args(stripe.Event.__annotations__["type"]))
    told = {event["type"] for event in provider.state.events} | set(module.events.SUBJECTS)
    known = {kind for part in kinds for kind in (typing.get_args(part) or [part])}
    assert told <= known, told - known
