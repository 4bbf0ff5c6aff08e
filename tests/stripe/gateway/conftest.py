"""The gateway alone, without a shop, and a clock that goes here and at the provider."""

from collections.abc import Callable, Iterator
from time import time

import pytest

from app.gateways.stripe import requests
from app.gateways.stripe.gateway import StripeGateway
from tests.stripe.gateway.asking import WINDOW
from tests.stripe.provider.server import Provider
from tests.stripe.provider.state import API_KEY


@pytest.fixture
def gateway(provider: Provider) -> StripeGateway:
    return StripeGateway(API_KEY, window=WINDOW, api_base=provider.origin, page_origin=provider.origin)


@pytest.fixture
def wait(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Let so many seconds go by, here and at the provider."""

    def go_by(seconds: float) -> None:
        provider.state.ahead += seconds

    monkeypatch.setattr(requests, "time", lambda: time() + provider.state.ahead)
    yield go_by
