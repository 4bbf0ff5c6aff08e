"""A shop whose gateway is Stripe, and a stand-in for Stripe."""

from collections.abc import Callable, Iterator

import pytest

from app.charges import recovery
from app.gateways.base import EventSender
from app.gateways.registry import from_settings
from app.gateways.stripe.gateway import StripeGateway
from tests.shops import Shop
from tests.stripe.provider.server import Provider, running_provider
from tests.stripe.provider.state import API_KEY, SECRET


@pytest.fixture
def provider() -> Iterator[Provider]:
    with running_provider() as provider:
        yield provider


@pytest.fixture
def gateway_deadline() -> float:
    """Return the seconds that the shop gives the provider."""
    return 2.0


@pytest.fixture
def shop(make_shop: Callable[..., Shop], provider: Provider, gateway_deadline: float) -> Shop:
    """Return a shop whose gateway is the stand-in, on each database engine."""
    shop = make_shop(
        payment_gateway="stripe", stripe_secret_key=API_KEY, stripe_webhook_secret=(SECRET,),
        stripe_api_base=provider.origin, gateway_deadline=gateway_deadline,
    )  # fmt: skip
    shop.gateways.use_all(from_settings(shop.settings()))
    return shop


@pytest.fixture
def gateway(shop: Shop) -> StripeGateway:
    current = shop.gateways.current
    assert isinstance(current, EventSender) and isinstance(current, StripeGateway)
    return current


@pytest.fixture
def recover(shop: Shop) -> Callable[..., int]:
    """Return a function that makes one pass of recovery over all open charges and refunds, whether due or not.

    `window` is the number of seconds that a shopper has to pay on the provider's page.
    """

    def run(window: float = 3600.0) -> int:
        for name in ("charge", "refund"):
            shop.execute(f"UPDATE {name} SET ask_at = created_at WHERE ended_at IS NULL")
        with shop.app.app_context():
            return recovery.run(shop.gateways, 2.0, window)

    return run
