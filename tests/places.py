"""Lets other requests hold the places at the gateway."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from app import current
from app.places import GatewayPlaces
from tests.shops import Shop


def places_of(shop: Shop) -> GatewayPlaces:
    with shop.app.app_context():
        return current.places()


@contextmanager
def all_taken(shop: Shop) -> Iterator[GatewayPlaces]:
    """Let other requests hold every place inside the block."""
    places = places_of(shop)
    with ExitStack() as others:
        for _ in range(places.limit):
            others.enter_context(places.take())
        yield places
