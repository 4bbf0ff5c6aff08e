"""Compare our requests and the stand-in's answers with the types that Stripe's library declares."""

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
from stripe.params._dispute_list_params import DisputeListParams
from stripe.params.checkout import SessionCreateParams, SessionListParams

from app.gateways.base import EventSubject, GatewayEvent, RefundRequest
from app.gateways.stripe import gateway as module
from app.gateways.stripe.gateway import StripeGateway
from app.gateways.stripe.requests import prepare
from tests.stripe.gateway.payments import charged, new_payment, sale
from tests.stripe.provider import disputes
from tests.stripe.provider.server import Provider
from tests.stripe.provider.state import API_KEY


def undeclared(value: Any, declared: type | None, path: str = "") -> Iterator[str]:
    """Yield the path of each field in `value` that the type does not declare. Free fields (metadata) are not read."""
    if isinstance(value, list):
        for each in value:
            yield from undeclared(each, declared, path)
    elif isinstance(value, dict) and declared is not None:
        for name, inner in value.items():
            if name in declared.__annotations__:
                yield from undeclared(inner, _type_of(declared, name), f"{path}{name}.")
            else:
                yield path + name


def _type_of(declared: type, name: str) -> type | None:
    """Return the type whose name is in the declaration of the field; None if the field has no declared fields."""
    words = re.findall(r"\w+Params\w+", str(declared.__annotations__[name]))
    found = (getattr(sys.modules[declared.__module__], word, None) for word in words)
    return next((each for each in found if each is not None), None)


def test_the_check_finds_an_undeclared_field() -> None:
    request = prepare(sale(), version="v", live=False, window=3600)["params"]
    assert list(undeclared({**request, "nonsense": 1}, SessionCreateParams)) == ["nonsense"]
    deep = {**request, "line_items": [{"quantity": 1, "price_data": {"currency": "eur", "odd": 1}}]}
    assert list(undeclared(deep, SessionCreateParams)) == ["line_items.price_data.odd"]


def test_the_stored_request_is_declared() -> None:
    request = prepare(sale(), version="v", live=False, window=3600)["params"]
    assert list(undeclared(request, SessionCreateParams)) == []


@pytest.mark.parametrize("name", ["charges", "refunds", "sessions", "refund", "disputes"])
def test_the_other_requests_are_declared(provider: Provider, name: str) -> None:
    gateway = StripeGateway(API_KEY, window=3600, api_base=provider.origin, page_origin=provider.origin)
    paid = charged(gateway, new_payment(gateway))
    provider.pay()
    gateway.refund(RefundRequest("r", 100, paid), 5)
    list(gateway.statement())
    gateway.key_of(_dispute_event(provider), 5)
    types = {
        "charges": ("GET", "/v1/charges", ChargeListParams),
        "refunds": ("GET", "/v1/refunds", RefundListParams),
        "sessions": ("GET", "/v1/checkout/sessions", SessionListParams),
        "disputes": ("GET", "/v1/disputes", DisputeListParams),
        "refund": ("POST", "/v1/refunds", RefundCreateParams),
    }
    method, path, declared = types[name]
    sent = [request.params for request in provider.requests if (request.method, request.path) == (method, path)]
    assert sent
    assert [list(undeclared(params, declared)) for params in sent] == [[]] * len(sent)


def _dispute_event(provider: Provider) -> GatewayEvent:
    intent = provider.session["payment_intent"]
    return GatewayEvent(
        "e", "charge.dispute.created", EventSubject.DISPUTE, datetime.now(UTC), gateway_reference=intent
    )


def _fields(declared: type) -> dict[str, str]:
    """Return the fields of one of the library's objects, with their declared types as text."""
    own = [cls for cls in declared.__mro__ if "_stripe_object" not in cls.__module__ and cls is not dict]
    return {name: str(kind) for cls in own for name, kind in getattr(cls, "__annotations__", {}).items()}


def test_the_stand_ins_answers_have_all_required_and_only_declared_fields(provider: Provider) -> None:
    gateway = StripeGateway(API_KEY, window=3600, api_base=provider.origin, page_origin=provider.origin)
    charged(gateway, new_payment(gateway))
    provider.pay()
    refund = provider.refund_by_hand(100)
    (charge,) = provider.paid()
    intent = provider.state.intents[charge["payment_intent"]]
    dispute = disputes.open_(provider.state, charge)
    for answer, declared in (
        (provider.session, stripe.checkout.Session), (charge, stripe.Charge), (refund, stripe.Refund),
        (intent, stripe.PaymentIntent), (dispute, stripe.Dispute), (provider.state.events[0], stripe.Event),
        (dispute["balance_transactions"][0], stripe.BalanceTransaction),
    ):  # fmt: skip
        fields = _fields(declared)
        assert set(answer) <= set(fields), (declared, set(answer) - set(fields))
        required = {name for name, kind in fields.items() if "Optional" not in kind and "ClassVar" not in kind}
        assert required <= set(answer), (declared, required - set(answer))
    kinds = set(typing.get_args(stripe.Event.__annotations__["type"]))
    used = {event["type"] for event in provider.state.events} | set(module.events.SUBJECTS)
    known = {kind for part in kinds for kind in (typing.get_args(part) or [part])}
    assert used <= known, used - known
