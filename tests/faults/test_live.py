"""Kill the shop's real processes under load, and break their connections. No receipt is lost and nobody pays twice."""

import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.charges import protocol, rows
from app.database import db
from tests.factories import order, purchase
from tests.faults.leaks import assert_no_connection_leaked
from tests.faults.live import DEADLINE, WORKERS, LiveShop, live_shop
from tests.faults.load import Shoppers, shoppers_at
from tests.faults.rounds import TIMES, report
from tests.gateways.bank import RunningBank, running_bank, until
from tests.postgres import Cluster
from tests.recovery import count_unsettled, recover_and_audit
from tests.shops import Shop
from tests.silence import at, line, socket_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240 + 240 * TIMES)]

KILLS = 5 * TIMES
RESTARTS = 5 * TIMES
SILENCE = 4.0 if TIMES == 1 else 15.0
"""Seconds for which a link is down: less or more than it takes the shop to cut a connection."""

POOLS = WORKERS + 1
"""The connection pools of gunicorn's workers and of this process."""


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[RunningBank]:
    with running_bank(f"sqlite:///{tmp_path}/running/bank.sqlite", tmp_path) as bank:
        yield bank


@pytest.fixture
def shop_here(open_shop: Callable[..., Shop], bank: RunningBank) -> Callable[[str], Shop]:
    """Return a function that creates a shop in this process, on the live shop's database and bank.

    It is used for recovery and the audit.
    """

    def make(url: str) -> Shop:
        shop = open_shop(url)
        shop.gateway = bank.gateway
        shop.gateways.use(bank.gateway)
        return shop

    return make


@pytest.fixture
def url(engine_name: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a migrated and seeded database that only this test uses."""
    if engine_name == "postgresql":
        cluster = request.getfixturevalue("cluster")
        return str(cluster.url(request.getfixturevalue("database")))
    path = tmp_path / "live" / "shop.sqlite"
    path.parent.mkdir(mode=0o700)
    shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
    return f"sqlite:///{path}"


def settle_and_check(shop: Shop, shoppers: Shoppers) -> int:
    """Recover everything, audit, and open every receipt again. Return the number of receipts."""
    recover_and_audit(shop)
    assert not count_unsettled(shop)
    return shoppers.check()


def test_workers_killed_at_random_under_load(
    url: str, shop_here: Callable[[str], Shop], bank: RunningBank, tmp_path: Path, engine_name: str
) -> None:
    shop, rng = shop_here(url), random.Random(TIMES)
    with live_shop(url, bank.url, tmp_path) as live:
        with shoppers_at(live.url) as shoppers:
            shoppers.wait_for_receipts(3)
            for _ in range(KILLS):
                until(lambda: len(live.workers()) == WORKERS, 60)
                time.sleep(rng.random() * 0.3)  # The worker dies at any point of its work.
                live.kill_worker(rng.choice(live.workers() or [0]) or -1)
                shoppers.wait_for_receipts(2)
        receipts = settle_and_check(shop, shoppers)
    report(f"live gunicorn workers killed, {engine_name}", kills=KILLS, receipts_kept=receipts,
           forms_sent=shoppers.posts)  # fmt: skip


def test_recovery_workers_killed_at_random(
    url: str, shop_here: Callable[[str], Shop], bank: RunningBank, tmp_path: Path, engine_name: str
) -> None:
    """Two workers settle charges; one is killed and replaced in each round. In the end, everything is settled."""
    shop, kills = shop_here(url), 3 * TIMES
    live = LiveShop(url, bank.url, tmp_path)
    try:
        for number in range(kills):
            with shop.app.app_context():
                for taken in (True, False) * 3:
                    pressed = purchase(order())
                    charge = protocol.claim(pressed, shop.gateway, 0.0)
                    if taken:
                        shop.gateway.charge(charge.payment, pressed.card, 3.0)
            shop.execute("UPDATE charge SET ask_at = created_at WHERE ended_at IS NULL")
            while len(live.running) < 2:
                live.recover(f"recovery{number}-{len(live.running)}")
            before = count_unsettled(shop)
            until(lambda before=before: count_unsettled(shop) < before, 60)  # type: ignore[misc]
            live.kill(min(live.running))
        shop.execute("UPDATE charge SET ask_at = created_at WHERE ended_at IS NULL")
        until(lambda: count_unsettled(shop) == 0, 90)
        assert set(live.stop().values()) == {0}
    finally:
        live.kill_all()
    recover_and_audit(shop)
    assert shop.charges() == {"succeeded": 3 * kills, "canceled": 3 * kills}
    report(f"live recovery workers killed, {engine_name}", kills=kills, settled=6 * kills)


@pytest.mark.postgres
def test_postgresql_restarted_under_load(
    cluster: Cluster, database: str, shop_here: Callable[[str], Shop], bank: RunningBank, tmp_path: Path
) -> None:
    """PostgreSQL is stopped in turn properly and as in a crash. The workers reconnect without a restart."""
    url, ready_again = cluster.url(database), []
    shop = shop_here(url)
    with live_shop(url, bank.url, tmp_path) as live:
        workers = live.workers()
        with shoppers_at(live.url) as shoppers:
            for number in range(RESTARTS):
                shoppers.wait_for_receipts(3)
                cluster.stop("immediate" if number % 2 else "fast")
                cluster.start()
                started = time.monotonic()
                until(live.is_ready, 60)
                ready_again.append(time.monotonic() - started)
            shoppers.wait_for_receipts(3)
        assert set(workers) <= set(live.workers())
        receipts = settle_and_check(shop, shoppers)
        assert_no_connection_leaked(cluster, database, POOLS)
    report("PostgreSQL restarted under load", restarts=RESTARTS, receipts_kept=receipts, forms_sent=shoppers.posts,
           seconds_until_ready_at_most=round(max(ready_again), 2))  # fmt: skip


@pytest.mark.postgres
def test_backends_terminated_under_load(
    cluster: Cluster, database: str, shop_here: Callable[[str], Shop], bank: RunningBank, tmp_path: Path
) -> None:
    url, terminated = cluster.url(database), 0
    shop = shop_here(url)
    with live_shop(url, bank.url, tmp_path) as live:
        with shoppers_at(live.url) as shoppers:
            for _ in range(RESTARTS):
                shoppers.wait_for_receipts(3)
                terminated += cluster.terminate(database)
        receipts = settle_and_check(shop, shoppers)
        assert_no_connection_leaked(cluster, database, POOLS)
    report("PostgreSQL backends terminated under load", backends=terminated, receipts_kept=receipts,
           forms_sent=shoppers.posts)  # fmt: skip


def test_the_bank_killed_under_load_and_every_doubt_settled(
    url: str, shop_here: Callable[[str], Shop], bank: RunningBank, tmp_path: Path, engine_name: str
) -> None:
    """The recovery worker settles everything after the bank is back. The time that it needs is only measured."""
    shop, settled_after, kills = shop_here(url), [], 2 * TIMES
    with live_shop(url, bank.url, tmp_path) as live:
        live.recover()
        with shoppers_at(live.url) as shoppers:
            for _ in range(kills):
                shoppers.wait_for_receipts(4)
                bank.kill()
                time.sleep(DEADLINE)  # Shoppers continue to press Pay.
                started = time.monotonic()
                bank.start()
                newest = int(shop.value("SELECT max(id) FROM charge"))
                until(lambda newest=newest: _is_settled(shop, newest), 150)  # type: ignore[misc]
                settled_after.append(time.monotonic() - started)
        until(lambda: count_unsettled(shop) == 0, 150)
        receipts = settle_and_check(shop, shoppers)
        assert set(live.stop().values()) == {0}
    report(f"bank killed under load, {engine_name}", kills=kills, receipts_kept=receipts,
           seconds_until_all_doubt_was_settled=[round(seconds, 1) for seconds in settled_after])  # fmt: skip


def _is_settled(shop: Shop, newest: int) -> bool:
    """Return whether the outcome of every charge up to this id is known."""
    unknown = "SELECT count(*) FROM charge WHERE id <= :id AND status IN ('processing', 'in_doubt')"
    return shop.value(unknown, id=newest) == 0


def test_recovery_continues_after_the_database_was_away(
    cluster: Cluster, database: str, bank: RunningBank, tmp_path: Path
) -> None:
    """The worker starts without a database and later loses its connections. It continues, and exits with 0."""
    url = cluster.url(database)
    live = LiveShop(url, bank.url, tmp_path)
    cluster.stop("immediate")
    try:
        live.recover()
        until(lambda: "recovery_waiting" in live.log("recovery"), 60)
        cluster.start()
        shop = Shop(url, tmp_path)
        for _ in range(2):
            with shop.app.app_context():
                protocol.claim(purchase(order()), bank.gateway, -rows.RECOVERY_MARGIN)
            until(lambda: count_unsettled(shop) == 0, 60)
            cluster.restart("immediate")
            with shop.app.app_context():
                db.engine.dispose()  # The restart broke this process's connections too.
        assert shop.charges() == {"canceled": 2}
        assert live.stop() == {"recovery": 0}
        shop.close()
    finally:
        live.kill_all()
        if not (cluster.data / "postmaster.pid").exists():
            cluster.start()


@pytest.mark.postgres
def test_links_down_under_load(
    cluster: Cluster, database: str, shop_here: Callable[[str], Shop], bank: RunningBank, tmp_path: Path
) -> None:
    """The links to the database and to the bank go down in turn. No socket is closed, and no process is restarted."""
    url = cluster.url(database)
    shop = shop_here(url)
    with (
        line(socket_of(cluster), "wire") as to_database,
        line(at(bank.url), "wire") as to_bank,
        live_shop(to_database.url(url), f"http://{to_bank.host}:{to_bank.port}", tmp_path) as live,
    ):
        with shoppers_at(live.url) as shoppers:
            for link in (to_database, to_bank) * TIMES:
                shoppers.wait_for_receipts(3)
                link.go_silent()
                time.sleep(SILENCE)
                link.restore()
                until(live.is_ready, 60)
            shoppers.wait_for_receipts(3)
        receipts = settle_and_check(shop, shoppers)
        assert_no_connection_leaked(cluster, database, POOLS)
    report("links down under load", times=2 * TIMES, receipts_kept=receipts, forms_sent=shoppers.posts)


@pytest.mark.postgres
def test_recovery_continues_after_the_database_was_silent(
    cluster: Cluster, database: str, bank: RunningBank, tmp_path: Path
) -> None:
    """The worker starts with a silent database, and later all its connections fall silent. It exits with 0."""
    url = cluster.url(database)
    shop = Shop(url, tmp_path)
    with line(socket_of(cluster)) as to_database:
        live = LiveShop(to_database.url(url), bank.url, tmp_path)
        to_database.go_silent()
        try:
            live.recover()
            until(lambda: "recovery_waiting" in live.log("recovery"), 60)
            to_database.restore()
            for _ in range(2):
                with shop.app.app_context():
                    protocol.claim(purchase(order()), bank.gateway, -rows.RECOVERY_MARGIN)
                until(lambda: count_unsettled(shop) == 0, 60)
                to_database.forget()
            assert shop.charges() == {"canceled": 2}
            assert live.stop() == {"recovery": 0}
            shop.close()
        finally:
            live.kill_all()
