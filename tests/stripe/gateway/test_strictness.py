"""The largest order that the shop can make is within the provider's limits, which the stand-in checks."""

import pytest

from app.gateways.base import Outcome, PaymentLine
from app.gateways.stripe.gateway import StripeGateway
from app.orders.basket import MOST_LINES, MOST_OF_ONE
from tests.stripe.gateway.payments import new_payment


@pytest.mark.parametrize("name", ["n" * 5000, "\N{HOT BEVERAGE}" * 300, "名" * 251])
def test_the_longest_texts_and_most_lines_are_accepted(gateway: StripeGateway, name: str) -> None:
    lines = [PaymentLine(name, MOST_OF_ONE, 1000)] * MOST_LINES
    payment = new_payment(gateway, lines=lines, amount=MOST_OF_ONE * 1000 * MOST_LINES)
    assert gateway.charge(payment, None, 5).outcome is Outcome.REQUIRES_ACTION


def test_the_stand_in_refuses_what_the_provider_refuses(gateway: StripeGateway) -> None:
    lines = [PaymentLine("Thing", 1, 1000)] * 101
    answer = gateway.charge(new_payment(gateway, lines=lines, amount=101_000), None, 5)
    assert (answer.outcome, answer.this_request_only) == (Outcome.CANCELED, True)
