"""The gateway without a shop, and one clock for the gateway and the provider."""

from collections.abc import Callable, Iterator
from time import time

import pytest

from app.gateways.stripe import requests
from app.gateways.stripe.gateway import StripeGateway
from tests.factories import SHOP_ID
from tests.stripe.gateway.payments import WINDOW
from tests.stripe.provider.server import Provider
from tests.stripe.provider.state import API_KEY


@pytest.fixture
def gateway(provider: Provider) -> StripeGateway:
    return StripeGateway(API_KEY, window=WINDOW, api_base=provider.origin, page_origin=provider.origin, shop_id=SHOP_ID)


@pytest.fixture
def wait(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Yield a function that moves both clocks forward by a number of seconds."""

    def move_clocks(seconds: float) -> None:
        provider.state.ahead += seconds

    monkeypatch.setattr(requests, "time", lambda: time() + provider.state.ahead)
    yield move_clocks
