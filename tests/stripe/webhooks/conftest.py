"""A shopper on the provider's page, and the HTTP client of the provider."""

import httpx
import pytest

from tests.page import Shopper
from tests.shops import Shop
from tests.stripe.test_paying import form_of


@pytest.fixture
def shopper(shop: Shop) -> Shopper:
    """Return a shopper who was redirected to the provider's page."""
    shopper = shop.shopper()
    form_of(shopper).post()
    return shopper


@pytest.fixture
def hook(shop: Shop) -> httpx.Client:
    """Return the client that delivers the provider's events."""
    return shop.shopper().client
