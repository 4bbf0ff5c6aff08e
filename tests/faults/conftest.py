"""Fixtures of the fault tests: PostgreSQL clusters that tests may break, with a migrated database, and shops."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import migrate
from tests.faults.commits import PostgresProxy, proxied
from tests.postgres import Cluster, private_cluster
from tests.shops import Shop

ENOUGH_STOCK = "UPDATE product SET stock = stock + 1000000, stocked = stocked + 1000000"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Yield a durable PostgreSQL that only this module uses. Tests may restart it and break its connections."""
    with private_cluster(durable=True) as cluster:
        cluster.template = cluster.create()  # type: ignore[attr-defined]
        migrate(cluster.url(cluster.template))  # type: ignore[attr-defined]
        yield cluster


@pytest.fixture
def database(cluster: Cluster) -> Iterator[str]:
    """Yield the name of a migrated and seeded database in the module's cluster."""
    name = cluster.create(template=cluster.template)  # type: ignore[attr-defined]
    yield name
    cluster.drop(name)


@pytest.fixture
def proxy(cluster: Cluster) -> Iterator[PostgresProxy]:
    with proxied(cluster) as proxy:
        yield proxy


@pytest.fixture
def open_shop(tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    """Return a function that creates a shop over the database at a URL, with enough stock for any load."""
    made: list[Shop] = []

    def make(url: str, **changes: Any) -> Shop:
        shop = Shop(url, tmp_path, changes)
        shop.execute(ENOUGH_STOCK)
        made.append(shop)
        return shop

    yield make
    for shop in made:
        shop.close()
