"""What the faults share: clusters that may be broken, with a migrated database, and shops over them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import migrate
from tests.faults.commits import PostgresProxy, proxied
from tests.postgres import Cluster, private_cluster
from tests.shops import Shop

MANY = "UPDATE product SET stock = stock + 1000000, stocked = stocked + 1000000"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL of this module's own, durable, that may be restarted, cut off and starved."""
    with private_cluster(durable=True) as cluster:
        cluster.template = cluster.create()  # type: ignore[attr-defined]
        migrate(cluster.url(cluster.template))  # type: ignore[attr-defined]
        yield cluster


@pytest.fixture
def database(cluster: Cluster) -> Iterator[str]:
    """A migrated and seeded database on it."""
    name = cluster.create(template=cluster.template)  # type: ignore[attr-defined]
    yield name
    cluster.drop(name)


@pytest.fixture
def proxy(cluster: Cluster) -> Iterator[PostgresProxy]:
    with proxied(cluster) as proxy:
        yield proxy


@pytest.fixture
def open_shop(tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    """Make a shop over the database at an address, with goods enough for any load."""
    made: list[Shop] = []

    def make(url: str, **changes: Any) -> Shop:
        shop = Shop(url, tmp_path, changes)
        shop.execute(MANY)
        made.append(shop)
        return shop

    yield make
    for shop in made:
        shop.close()
