"""The request that creates a session: what binds it to the charge, and amounts in the provider's units."""

from time import time
from uuid import uuid4

import pytest

from app.gateways.base import Answer, NotPayable, Outcome, PaymentLine
from app.gateways.stripe.gateway import StripeGateway
from tests.factories import SHOP_ID
from tests.stripe.gateway.payments import CREATE, WINDOW, charged, new_payment
from tests.stripe.provider.server import Provider


def test_the_request_binds_the_session_to_the_charge(provider: Provider, gateway: StripeGateway) -> None:
    order = str(uuid4())
    payment = new_payment(gateway, order_random_id=order)
    answer = gateway.charge(payment, None, 5)
    assert answer == Answer(Outcome.REQUIRES_ACTION, provider.session["id"], None, provider.session["url"])
    method, path, key, params = provider.requests[-1]
    assert (f"{method} {path}", key) == (CREATE, payment.key)
    assert params["client_reference_id"] == payment.key
    assert params["metadata"] == params["payment_intent_data"]["metadata"] == {
        "payonce_charge": payment.key, "payonce_order": order, "payonce_shop": SHOP_ID,
    }  # fmt: skip
    assert params["line_items"] == [
        {"quantity": "2",
         "price_data": {"currency": "eur", "unit_amount": "2400", "product_data": {"name": "Morning mug"}}}
    ]  # fmt: skip
    assert params["customer_email"] == "ada@example.org"
    assert params["allowed_payment_method_types"] == ["card"]
    assert provider.session["expires_at"] > time() + WINDOW
    assert len(provider.requests) == 1


@pytest.mark.parametrize(
    ("currency", "ours", "theirs"),
    [("EUR", 2400, 2400), ("JPY", 2400, 2400), ("ISK", 2400, 240000), ("UGX", 9000, 900000), ("KWD", 7320, 7320)],
)  # fmt: skip
def test_amounts_are_sent_in_the_providers_units(
    provider: Provider, gateway: StripeGateway, currency: str, ours: int, theirs: int
) -> None:
    answer = gateway.charge(
        new_payment(gateway, amount=ours, currency=currency, lines=[PaymentLine("x", 1, ours)]), None, 5
    )
    assert answer.outcome is Outcome.REQUIRES_ACTION
    assert (provider.session["amount_total"], provider.session["currency"]) == (theirs, currency.lower())
    payment = new_payment(gateway, amount=ours, currency=currency, lines=[PaymentLine("x", 1, ours)])
    del provider.state.sessions[str(answer.gateway_reference)]
    charged(gateway, payment)
    provider.pay()
    assert [(line.amount, line.currency) for line in gateway.statement()] == [(ours, currency)]


@pytest.mark.parametrize(
    ("currency", "amount", "reason", "limit"),
    [("EUR", 49, "too_little", 50), ("GBP", 29, "too_little", 30), ("JPY", 49, "too_little", 50),
     ("EUR", 100_000_000, "too_much", 99_999_999), ("KWD", 7325, "step", 10)],
)  # fmt: skip
def test_an_amount_that_the_provider_would_refuse_is_refused_before_the_claim(
    provider: Provider, gateway: StripeGateway, currency: str, amount: int, reason: str, limit: int
) -> None:
    with pytest.raises(NotPayable) as refusal:
        new_payment(gateway, amount=amount, currency=currency)
    assert (refusal.value.reason, refusal.value.limit) == (reason, limit)
    assert provider.requests == []


def test_an_amount_that_the_provider_refuses_cancels_the_charge(provider: Provider, gateway: StripeGateway) -> None:
    answer = gateway.charge(new_payment(gateway, amount=50, currency="ISK", lines=[]), None, 5)
    assert (answer.outcome, answer.reason, answer.this_request_only) == (Outcome.CANCELED, "amount_too_small", True)


def test_lines_that_do_not_add_up_are_sent_as_one_line(provider: Provider, gateway: StripeGateway) -> None:
    gateway.charge(new_payment(gateway, lines=[PaymentLine("Morning mug", 1, 1)]), None, 5)
    assert provider.session["amount_total"] == 4800


def test_an_email_address_that_is_not_ascii_is_not_sent(provider: Provider, gateway: StripeGateway) -> None:
    gateway.charge(new_payment(gateway, email="adä@exämple.org"), None, 5)
    assert provider.session["customer_email"] is None
