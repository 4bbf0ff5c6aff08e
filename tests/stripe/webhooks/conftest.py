"""One shopper on the provider's page, and the way by which its events arrive."""

import httpx
import pytest

from tests.page import Shopper
from tests.shops import Shop
from tests.stripe.test_paying import form_of


@pytest.fixture
def shopper(shop: Shop) -> Shopper:
    """One who was led to the provider's page."""
    shopper = shop.shopper()
    form_of(shopper).post()
    return shopper


@pytest.fixture
def hook(shop: Shop) -> httpx.Client:
    """Where the provider's events arrive from."""
    return shop.shopper().client
