"""Answers about another payment, invalid answers, and lists of many pages."""

import pytest

from app.gateways.base import Unknown
from app.gateways.stripe import lists
from app.gateways.stripe.gateway import StripeGateway
from tests.stripe.gateway.payments import WINDOW, charged, new_payment
from tests.stripe.provider.server import Provider


@pytest.mark.parametrize(
    ("field", "value"),
    [("client_reference_id", "another"), ("amount_total", 1), ("amount_total", "4800"), ("amount_total", None),
     ("currency", "usd"), ("status", "odd"), ("payment_status", "odd"), ("url", None), ("url", "javascript:x"),
     ("id", None), ("status", {"a": 1})],
)  # fmt: skip
def test_an_answer_that_is_not_about_this_payment_is_unknown(
    provider: Provider, gateway: StripeGateway, field: str, value: object
) -> None:
    payment = charged(gateway, new_payment(gateway))
    provider.session[field] = value
    with pytest.raises(Unknown):
        gateway.lookup(payment, 5)


@pytest.mark.parametrize(
    "body", [b"[]", b'"x"', b"null", b"7", b"{}", b'{"id": 3}', b"\xff", b"[" * 10_000, b"{" + b" " * 5_000_000]
)
def test_an_invalid_answer_is_unknown(provider: Provider, gateway: StripeGateway, body: bytes) -> None:
    payment = charged(gateway, new_payment(gateway))
    fault = provider.fault("GET", "garbage")
    fault.body = body
    with pytest.raises(Unknown):
        gateway.lookup(payment, 5)


def test_a_wrong_secret_key_is_refused_and_appears_in_no_error(provider: Provider, gateway: StripeGateway) -> None:
    secret = "sk_test_" + "z" * 24
    wrong = StripeGateway(secret, window=WINDOW, api_base=provider.origin, page_origin=provider.origin)
    payment = new_payment(wrong)
    assert secret not in repr(wrong.charge(payment, None, 5))
    with pytest.raises(Unknown, match="401") as refusal:
        wrong.lookup(charged(gateway, payment), 5)
    assert secret not in repr(refusal.value) + str(refusal.value) + repr(refusal.value.__context__) + repr(wrong)


def test_the_statement_is_read_page_by_page(
    provider: Provider, gateway: StripeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "PAGE", 3)
    keys = []
    for _ in range(7):
        payment = charged(gateway, new_payment(gateway))
        provider.pay(provider.state.sessions[str(payment.gateway_reference)])
        keys.append(payment.key)
    assert [line.key for line in gateway.statement()] == keys[::-1]
    assert provider.calls("GET /v1/charges") == 3
