"""The contract of gateways that do more: prepare payments for a page of their own, and send signed events.

The counterparts are those of `contract.py`. The stand-in for Stripe signs with Stripe's own library.
"""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from app.gateways.base import BadEvent, EventSender, EventSubject, GatewayRefund, HostedGateway
from tests.gateways.contract import COUNTERPARTS, TIMEOUT, Counterpart, part_of, refusing_origin


@pytest.fixture(scope="module", params=COUNTERPARTS, ids=[counterpart.name for counterpart in COUNTERPARTS])
def counterpart(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counterpart]:
    with request.param(tmp_path_factory.mktemp(request.param.name)) as counterpart:
        yield counterpart


def gateways_with(protocol: Any) -> pytest.MarkDecorator:
    """Run a test for the gateways whose client has all methods of this protocol."""
    chosen = [each for each in COUNTERPARTS if isinstance(each(Path()).client("http://127.0.0.1:9"), protocol)]
    return pytest.mark.parametrize("counterpart", chosen, indirect=True, ids=[each.name for each in chosen])


@gateways_with(HostedGateway)
def test_a_hosted_payment_is_prepared_without_a_request_to_the_gateway(counterpart: Counterpart) -> None:
    """`payment` prepares it and converts it to JSON and back, as the claim does."""
    with refusing_origin() as origin:
        elsewhere = type(counterpart)(counterpart.folder)
        elsewhere.origin = origin
        request = elsewhere.payment().gateway_request
    assert request and json.loads(json.dumps(request)) == request


@gateways_with(EventSender)
def test_an_event_is_read_without_a_request_to_the_gateway(counterpart: Counterpart) -> None:
    payment = counterpart.paid()
    body, headers = counterpart.event(payment)
    with refusing_origin() as origin:
        gateway = counterpart.client(origin)
        assert isinstance(gateway, EventSender)
        event = gateway.read_event(body, headers)
    assert (event.subject, event.key, event.at.utcoffset()) == (EventSubject.PAYMENT, payment.key, timedelta(0))
    assert event.id and event.kind
    assert gateway.key_of(event, TIMEOUT) == payment.key


@gateways_with(EventSender)
def test_an_event_that_the_gateway_did_not_sign_is_refused(counterpart: Counterpart) -> None:
    gateway = counterpart.client()
    assert isinstance(gateway, EventSender)
    payment = counterpart.paid()
    body, headers = counterpart.event(payment)
    other_body, other_headers = counterpart.event(counterpart.paid())
    other_key = body.replace(payment.key.encode(), str(uuid4()).encode())
    bad = [(body, {}), (body, other_headers), (other_body, headers), (other_key, headers), (body + b" ", headers)]
    bad += [(b"", headers), (body, {name: value[::-1] for name, value in headers.items()})]
    bad += [(body, {**headers, name: ""}) for name in headers if not name.lower().startswith("content-")]
    for altered, with_headers in bad:
        with pytest.raises(BadEvent):
            gateway.read_event(altered, with_headers)
    assert gateway.read_event(body, headers).key == payment.key


@gateways_with(EventSender)
def test_refunds_of_a_payment_have_our_keys(counterpart: Counterpart) -> None:
    gateway, payment = counterpart.client(), counterpart.paid()
    assert isinstance(gateway, EventSender)
    assert gateway.refunds_of(payment, TIMEOUT) == gateway.disputes_of(payment, TIMEOUT) == []
    part = part_of(payment, 1000)
    reference = gateway.refund(part, TIMEOUT).gateway_reference
    assert reference
    assert gateway.refunds_of(payment, TIMEOUT) == [GatewayRefund(part.key, 1000, reference, ours=True)]
