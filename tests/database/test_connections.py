"""Broken connections: replaced if they broke while idle, reported if they break in use. How reads see the database."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from app import database, engines
from app.database import Unreachable, reading, transaction
from tests.postgres import Server
from tests.shops import Shop

pytestmark = pytest.mark.postgres
SELECT = text("SELECT 1")


@pytest.fixture
def break_connections(
    postgres: Server, postgres_reused: Callable[[], str], tmp_path: Path
) -> Iterator[Callable[[], int]]:
    """Yield a function that breaks all connections of a shop on PostgreSQL and returns how many there were."""
    url = postgres_reused()
    shop = Shop(url, tmp_path)
    with shop.app.app_context():
        read()
        yield lambda: postgres.terminate(url.rpartition("/")[2].partition("?")[0])
    shop.close()


def read() -> None:
    with reading() as tx:
        tx.execute(SELECT)


def write() -> None:
    with transaction() as tx:
        tx.execute(SELECT)


@pytest.mark.parametrize("use", [read, write])
def test_a_connection_that_broke_while_idle_is_replaced(
    break_connections: Callable[[], int], use: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "IDLE", 0.0)
    assert break_connections()
    use()


@pytest.mark.parametrize("use", [read, write])
def test_after_recently_used_connections_broke_only_the_first_use_fails(
    break_connections: Callable[[], int], use: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "IDLE", 60.0)
    in_use = [database.db.engine.connect() for _ in range(3)]
    for connection in in_use:
        connection.close()
    assert break_connections() == 3
    with pytest.raises(Unreachable):
        use()
    for _ in range(3):
        use()


def test_a_connection_that_breaks_in_use_is_reported_once(break_connections: Callable[[], int]) -> None:
    with pytest.raises(Unreachable), reading() as tx:
        tx.execute(SELECT)
        assert break_connections()
        tx.execute(SELECT)
    read()


def test_only_reads_together_see_one_snapshot(break_connections: Callable[[], int]) -> None:
    assert names_before_and_after_a_change(together=False) == ["Morning mug", "Changed 1"]
    assert names_before_and_after_a_change(together=True) == ["Changed 1", "Changed 1"]
    assert names_before_and_after_a_change(together=False) == ["Changed 2", "Changed 3"], "the level does not stay"


def names_before_and_after_a_change(*, together: bool) -> list[str]:
    """Read a product's name twice. Between the two reads, another connection commits the next name."""
    name = text("SELECT name FROM product WHERE slug = 'morning-mug'")
    change = text(
        "UPDATE product SET name = 'Changed ' || coalesce(substring(name FROM '[0-9]+')::int + 1, 1) "
        "WHERE slug = 'morning-mug'"
    )
    with reading(together=together) as tx:
        before = tx.execute(name).scalar_one()
        with transaction() as other:
            other.execute(change)
        return [before, tx.execute(name).scalar_one()]
