"""What a session is made of: all that binds it to the charge, in the provider's own amounts."""

from time import time

import pytest

from app.gateways.base import Answer, NotPayable, Outcome, PaymentLine
from app.gateways.stripe.gateway import StripeGateway
from tests.stripe.gateway.asking import CREATE, WINDOW, charged, payment
from tests.stripe.provider.server import Provider


def test_the_request_says_all_that_binds_the_session_to_the_charge(provider: Provider, gateway: StripeGateway) -> None:
    made = payment(gateway)
    answer = gateway.charge(made, None, 5)
    assert answer == Answer(Outcome.REQUIRES_ACTION, provider.session["id"], None, provider.session["url"])
    method, path, key, params = provider.asked[-1]
    assert (f"{method} {path}", key) == (CREATE, made.key)
    assert params["client_reference_id"] == made.key
    assert params["metadata"] == params["payment_intent_data"]["metadata"] == {"payonce_charge": made.key}
    assert params["line_items"] == [
        {"quantity": "2",
         "price_data": {"currency": "eur", "unit_amount": "2400", "product_data": {"name": "Morning mug"}}}
    ]  # fmt: skip
    assert params["customer_email"] == "ada@example.org"
    assert params["allowed_payment_method_types"] == ["card"]
    assert provider.session["expires_at"] > time() + WINDOW
    assert len(provider.asked) == 1


@pytest.mark.parametrize(
    ("currency", "ours", "theirs"),
    [("EUR", 2400, 2400), ("JPY", 2400, 2400), ("ISK", 2400, 240000), ("UGX", 9000, 900000), ("KWD", 7320, 7320)],
)  # fmt: skip
def test_amounts_have_the_providers_exponent(
    provider: Provider, gateway: StripeGateway, currency: str, ours: int, theirs: int
) -> None:
    answer = gateway.charge(
        payment(gateway, amount=ours, currency=currency, lines=[PaymentLine("x", 1, ours)]), None, 5
    )
    assert answer.outcome is Outcome.REQUIRES_ACTION
    assert (provider.session["amount_total"], provider.session["currency"]) == (theirs, currency.lower())
    made = payment(gateway, amount=ours, currency=currency, lines=[PaymentLine("x", 1, ours)])
    del provider.state.sessions[str(answer.gateway_reference)]
    charged(gateway, made)
    provider.pay()
    assert [(line.amount, line.currency) for line in gateway.statement()] == [(ours, currency)]


@pytest.mark.parametrize(
    ("currency", "amount", "reason", "limit"),
    [("EUR", 49, "too_little", 50), ("GBP", 29, "too_little", 30), ("JPY", 49, "too_little", 50),
     ("EUR", 100_000_000, "too_much", 99_999_999), ("KWD", 7325, "step", 10)],
)  # fmt: skip
def test_what_the_provider_would_not_take_is_refused_before_anything_is_claimed(
    provider: Provider, gateway: StripeGateway, currency: str, amount: int, reason: str, limit: int
) -> None:
    with pytest.raises(NotPayable) as refusal:
        payment(gateway, amount=amount, currency=currency)
    assert (refusal.value.reason, refusal.value.limit) == (reason, limit)
    assert provider.asked == []


def test_an_amount_that_only_the_provider_knows_to_be_too_small(provider: Provider, gateway: StripeGateway) -> None:
    answer = gateway.charge(payment(gateway, amount=50, currency="ISK", lines=[]), None, 5)
    assert answer == Answer(Outcome.CANCELED, reason="amount_too_small")


def test_lines_that_do_not_add_up_go_as_one(provider: Provider, gateway: StripeGateway) -> None:
    gateway.charge(payment(gateway, lines=[PaymentLine("Morning mug", 1, 1)]), None, 5)
    assert provider.session["amount_total"] == 4800


def test_an_address_in_other_letters_is_left_to_the_page(provider: Provider, gateway: StripeGateway) -> None:
    gateway.charge(payment(gateway, email="adä@exämple.org"), None, 5)
    assert provider.session["customer_email"] is None
