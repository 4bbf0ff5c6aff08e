"""The provider refuses the request itself, because of the account: the charge ends at once, unless that is not sure."""

from collections.abc import Callable

import pytest

from app.gateways.base import Answer, Outcome
from app.gateways.stripe.gateway import StripeGateway
from tests.factories import MUG
from tests.shops import Shop
from tests.stripe.provider.server import Provider
from tests.stripe.test_paying import CREATE, form_of, open_form


@pytest.mark.parametrize("kind", ["wrong_key", "forbidden", "not_activated"])
def test_a_refusal_because_of_the_account_ends_the_charge_at_once(
    shop: Shop, provider: Provider, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    provider.fault(CREATE, kind)
    stock = shop.stock(MUG)
    shopper = shop.shopper()
    page = form_of(shopper).submit()
    assert (page.status, page.heading) == (200, "Nothing was charged")
    assert "did not accept the shop's request. No money was taken." in page.text
    assert (shop.charges(), shop.stock(MUG)) == ({"canceled": 1}, stock)
    [(message, request_id)] = shop.rows("SELECT gateway_message, gateway_request_id FROM charge")
    assert message and "@" not in message and request_id == "req_test"
    assert f'"gateway_message": "{message}"' in capfd.readouterr().err
    assert message not in page.text
    open_form(shopper).post()
    assert shop.charges() == {"canceled": 1, "requires_action": 1}


def test_a_refusal_does_not_end_what_recovery_has_begun(
    shop: Shop, gateway: StripeGateway, recover: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account is activated between the refusal and its recording, and recovery repeats the request."""
    refused = Answer(Outcome.CANCELED, reason="not_activated", this_request_only=True)

    def refuse(*_: object) -> Answer:
        recover()
        return refused

    monkeypatch.setattr(gateway, "charge", refuse)
    form_of(shop.shopper()).post()
    assert shop.charges() == {"requires_action": 1}
