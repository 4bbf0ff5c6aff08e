"""Connections that nobody uses are closed after a while, and a database without a free one is named in one line."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from threading import Event

import psycopg2
import pytest
from click.testing import Result
from sqlalchemy import event, text
from sqlalchemy.engine import make_url

from app import engines, watchdog
from app.charges import recovery
from app.database import Unreachable, db, reading
from tests.conftest import migrate
from tests.gateways.bank import until
from tests.postgres import Server, private_cluster
from tests.shops import Shop

pytestmark = pytest.mark.postgres

OPEN = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND application_name = 'payonce'"
NO_PLACE = "the database has no free connection (max_connections)"


@pytest.fixture
def engine_name() -> str:
    """Run these tests on PostgreSQL only: SQLite has no places."""
    return "postgresql"


def read() -> None:
    with reading() as tx:
        tx.execute(text("SELECT 1"))


def count(postgres: Server, shop: Shop) -> int:
    return int(postgres.execute(OPEN, make_url(shop.database_url).database)[0][0])


def open_several() -> None:
    """Leave five connections in the pool that nobody uses."""
    used = [db.engine.connect() for _ in range(5)]
    for each in used:
        each.close()


def test_connections_that_nobody_uses_are_closed(shop: Shop, postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with shop.app.app_context():
        open_several()
        assert count(postgres, shop) >= 5
        monkeypatch.setattr(engines, "CLOSE_AFTER", 0.1)
        until(lambda: count(postgres, shop) == 0)
        monkeypatch.undo()
        for _ in range(5):
            read()
        assert count(postgres, shop) == 1


@pytest.mark.slow
def test_a_connection_in_use_is_never_closed(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections are closed all the time, while eight threads use them. No use fails."""
    monkeypatch.setattr(engines, "CLOSE_AFTER", 0.0)
    monkeypatch.setattr(watchdog, "PERIOD", 0.0)
    opened = []

    def use(seed: int) -> None:
        rng = Random(seed)
        with shop.app.app_context():
            for _ in range(40):
                read()
                Event().wait(rng.random() / 500)  # Connections are only closed while nobody uses them.

    with shop.app.app_context():
        event.listen(db.engine, "connect", lambda *_: opened.append(1))
    watchdog.stop()
    with ThreadPoolExecutor(8) as threads:
        for each in [threads.submit(use, seed) for seed in range(8)]:
            each.result()
    assert len(opened) > 16, "connections were closed and opened again"


@pytest.fixture
def full() -> Iterator[str]:
    """Yield the URL of a shop's database on a server with six connections, three of which are for the superuser."""
    with private_cluster(durable=False) as cluster:
        name = cluster.create()
        url = cluster.url(name)
        migrate(url)
        with (cluster.data / "postgresql.conf").open("a") as file:
            file.write("max_connections = 6\nsuperuser_reserved_connections = 3\n")
        cluster.restart()
        cluster.execute("CREATE ROLE payer LOGIN")
        cluster.execute("GRANT pg_read_all_data, pg_write_all_data TO payer")
        yield make_url(url).set(username="payer").render_as_string()


@pytest.mark.slow
def test_a_database_without_a_free_connection_is_named(full: str, tmp_path: Path) -> None:
    shop = Shop(full, tmp_path)
    dsn = make_url(full).set(drivername="postgresql").render_as_string()
    taken = [psycopg2.connect(dsn) for _ in range(3)]
    with shop.app.app_context(), pytest.raises(Unreachable, match="no free connection"):
        read()
    assert shop.shopper().client.get("/readyz").text == f"the database can't be reached: {NO_PLACE}\n"

    def run(command: str) -> Result:
        with shop.app.app_context():
            return shop.app.test_cli_runner().invoke(args=[command])

    for command, words, code in (("audit", f"Error: nothing was checked: {NO_PLACE}", 2),
                                 ("seed", f"Error: the database can't be used: {NO_PLACE}", 1)):  # fmt: skip
        result = run(command)
        assert (result.output.strip(), result.exit_code) == (words, code)
    taken.pop().close()
    until(lambda: run("audit").exit_code == 0)
    for each in taken:
        each.close()
    shop.close()


def test_a_worker_waits_ever_longer_while_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    class Stop:
        def is_set(self) -> bool:
            return len(waits) == 8

        def wait(self, seconds: float) -> None:
            waits.append(seconds)

    def fail() -> int:
        if len(waits) == 6:
            return 0
        raise Unreachable(NO_PLACE)

    recovery._loop("charges", fail, Stop())  # type: ignore[arg-type]
    assert waits[0] <= 2 < waits[5] <= recovery.LONGEST_PAUSE
    assert waits[6] == recovery.PAUSE, "after it has worked once"
    assert waits[7] <= 2


@pytest.mark.parametrize(("workers", "warned"), [(4, False), (20, True)])
def test_more_workers_than_the_database_has_connections_for(shop: Shop, workers: int, warned: bool) -> None:
    """The cluster of the tests allows 200."""
    with shop.app.app_context(), reading() as tx:
        warning = engines.scarce(tx, workers)
    assert (warning is not None) == warned
    if warning:
        assert "20 workers of this host may open 400 connections" in warning
        assert "\n" not in warning
