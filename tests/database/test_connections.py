"""Connections that broke while nobody used them, and what a look costs."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from app import database, engines
from app.database import Unreachable, reading, transaction
from tests.postgres import Server
from tests.shops import Shop

pytestmark = pytest.mark.postgres
NOW = text("SELECT 1")


@pytest.fixture
def cut(postgres: Server, postgres_reused: Callable[[], str], tmp_path: Path) -> Iterator[Callable[[], int]]:
    """Within a shop on PostgreSQL: breaks every connection that it has; answers how many there were."""
    url = postgres_reused()
    shop = Shop(url, tmp_path)
    with shop.app.app_context():
        look()
        yield lambda: postgres.terminate(url.rpartition("/")[2].partition("?")[0])
    shop.close()


def look() -> None:
    with reading() as tx:
        tx.execute(NOW)


def write() -> None:
    with transaction() as tx:
        tx.execute(NOW)


@pytest.mark.parametrize("use", [look, write])
def test_one_that_broke_while_it_idled_is_replaced_unnoticed(
    cut: Callable[[], int], use: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "IDLE", 0.0)
    assert cut()
    use()


@pytest.mark.parametrize("use", [look, write])
def test_of_those_that_broke_a_moment_after_use_one_says_so(
    cut: Callable[[], int], use: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "IDLE", 60.0)
    in_use = [database.db.engine.connect() for _ in range(3)]
    for connection in in_use:
        connection.close()
    assert cut() == 3
    with pytest.raises(Unreachable):
        use()
    for _ in range(3):
        use()


def test_one_that_breaks_in_use_says_so_once(cut: Callable[[], int]) -> None:
    with pytest.raises(Unreachable), reading() as tx:
        tx.execute(NOW)
        assert cut()
        tx.execute(NOW)
    look()


def test_each_look_stands_for_itself_unless_told(cut: Callable[[], int]) -> None:
    began = text("SELECT now()")  # When the transaction began.
    with reading() as tx:
        assert tx.execute(began).scalar_one() < tx.execute(began).scalar_one()
    with reading(together=True) as tx:
        assert tx.execute(began).scalar_one() == tx.execute(began).scalar_one()
