"""The shop's real processes under load, killed and cut off at random. No receipt is lost, nobody pays twice."""

import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.charges import protocol, rows
from app.database import db
from tests.factories import order, purchase
from tests.faults.live import DEADLINE, WORKERS, Processes, served
from tests.faults.load import Crowd, crowd
from tests.faults.rounds import TIMES, say
from tests.gateways.bank import RunningBank, running_bank, until
from tests.healing import heal, unsettled
from tests.postgres import Cluster
from tests.shops import Shop

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240 + 240 * TIMES)]

KILLS = 5 * TIMES
RESTARTS = 5 * TIMES


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[RunningBank]:
    with running_bank(f"sqlite:///{tmp_path}/running/bank.sqlite", tmp_path) as bank:
        yield bank


@pytest.fixture
def look(open_shop: Callable[..., Shop], bank: RunningBank) -> Callable[[str], Shop]:
    """The same database and bank as the processes', seen from this one: for recovery and the audit."""

    def make(url: str) -> Shop:
        shop = open_shop(url)
        shop.gateway = bank.gateway
        shop.gateways.use(bank.gateway)
        return shop

    return make


@pytest.fixture
def url(engine_name: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of one's own, for processes of one's own."""
    if engine_name == "postgresql":
        cluster = request.getfixturevalue("cluster")
        return str(cluster.url(request.getfixturevalue("database")))
    path = tmp_path / "live" / "shop.sqlite"
    path.parent.mkdir(mode=0o700)
    shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
    return f"sqlite:///{path}"


def afterwards(shop: Shop, them: Crowd) -> int:
    """Heal, recover, audit clean; then the shoppers open every receipt once more. How many receipts."""
    heal(shop)
    assert not unsettled(shop)
    return them.check()


def test_workers_killed_at_random_under_load(
    url: str, look: Callable[[str], Shop], bank: RunningBank, tmp_path: Path, engine_name: str
) -> None:
    shop, chance = look(url), random.Random(TIMES)
    with served(url, bank.url, tmp_path) as processes:
        with crowd(processes.url) as them:
            them.progress(3)
            for _ in range(KILLS):
                until(lambda: len(processes.workers()) == WORKERS, 60)
                time.sleep(chance.random() * 0.3)  # Wherever it is just then.
                processes.kill_worker(chance.choice(processes.workers() or [0]) or -1)
                them.progress(2)
        receipts = afterwards(shop, them)
    say(f"live gunicorn workers killed, {engine_name}", kills=KILLS, receipts_kept=receipts, forms_sent=them.posts)


def test_recovery_workers_killed_at_random(
    url: str, look: Callable[[str], Shop], bank: RunningBank, tmp_path: Path, engine_name: str
) -> None:
    """Two of them at work on doubts, one killed and started again; the rest is settled without anybody's help."""
    shop, kills = look(url), 3 * TIMES
    processes = Processes(url, bank.url, tmp_path)
    try:
        for number in range(kills):
            with shop.app.app_context():
                for taken in (True, False) * 3:
                    press = purchase(order())
                    charge = protocol.claim(press, shop.gateway, 0.0)
                    if taken:
                        shop.gateway.charge(charge.payment, press.card, 3.0)
            shop.execute("UPDATE charge SET ask_at = created_at WHERE ended_at IS NULL")
            while len(processes.running) < 2:
                processes.recover(f"recovery{number}-{len(processes.running)}")
            before = unsettled(shop)
            until(lambda before=before: unsettled(shop) < before, 60)  # type: ignore[misc]
            processes.kill(min(processes.running))
        shop.execute("UPDATE charge SET ask_at = created_at WHERE ended_at IS NULL")
        until(lambda: unsettled(shop) == 0, 90)
        assert set(processes.stop().values()) == {0}
    finally:
        processes.end()
    heal(shop)
    assert shop.charges() == {"succeeded": 3 * kills, "canceled": 3 * kills}
    say(f"live recovery workers killed, {engine_name}", kills=kills, settled=6 * kills)


@pytest.mark.postgres
def test_postgresql_restarted_under_load(
    cluster: Cluster, database: str, look: Callable[[str], Shop], bank: RunningBank, tmp_path: Path
) -> None:
    """In order and as by a power cut, in turn. Workers are not started again: they heal by themselves."""
    url, ready_again = cluster.url(database), []
    shop = look(url)
    with served(url, bank.url, tmp_path) as processes:
        workers = processes.workers()
        with crowd(processes.url) as them:
            for number in range(RESTARTS):
                them.progress(3)
                cluster.stop("immediate" if number % 2 else "fast")
                cluster.start()
                back = time.monotonic()
                until(processes.ready, 60)
                ready_again.append(time.monotonic() - back)
            them.progress(3)
        assert set(workers) <= set(processes.workers())
        receipts = afterwards(shop, them)
        assert_no_connection_leaked(cluster, database)
    say("PostgreSQL restarted under load", restarts=RESTARTS, receipts_kept=receipts, forms_sent=them.posts,
        seconds_until_ready_at_most=round(max(ready_again), 2))  # fmt: skip


def assert_no_connection_leaked(cluster: Cluster, database: str) -> None:
    """No more connections than the workers' pools hold (20 each), and none of them in the middle of something."""
    counted = "SELECT count(*), count(*) FILTER (WHERE state <> 'idle') FROM pg_stat_activity WHERE datname = %s"
    [(connections, busy)] = cluster.execute(counted, database)
    assert connections <= 20 * (WORKERS + 1)
    assert busy == 0


@pytest.mark.postgres
def test_backends_terminated_under_load(
    cluster: Cluster, database: str, look: Callable[[str], Shop], bank: RunningBank, tmp_path: Path
) -> None:
    url, ended = cluster.url(database), 0
    shop = look(url)
    with served(url, bank.url, tmp_path) as processes:
        with crowd(processes.url) as them:
            for _ in range(RESTARTS):
                them.progress(3)
                ended += cluster.terminate(database)
        receipts = afterwards(shop, them)
        assert_no_connection_leaked(cluster, database)
    say("PostgreSQL backends terminated under load", backends=ended, receipts_kept=receipts, forms_sent=them.posts)


def test_the_bank_killed_under_load_and_doubt_settled_by_itself(
    url: str, look: Callable[[str], Shop], bank: RunningBank, tmp_path: Path, engine_name: str
) -> None:
    """Nobody helps here: the recovery worker finds out, once the bank is back. How soon is measured, not asserted."""
    shop, settled_after, kills = look(url), [], 2 * TIMES
    with served(url, bank.url, tmp_path) as processes:
        processes.recover()
        with crowd(processes.url) as them:
            for _ in range(kills):
                them.progress(4)
                bank.kill()
                time.sleep(DEADLINE)  # Shoppers press on meanwhile.
                back = time.monotonic()
                bank.start()
                known = int(shop.value("SELECT max(id) FROM charge"))
                until(lambda known=known: _settled(shop, known), 150)  # type: ignore[misc]
                settled_after.append(time.monotonic() - back)
        until(lambda: unsettled(shop) == 0, 150)
        receipts = afterwards(shop, them)
        assert set(processes.stop().values()) == {0}
    say(f"bank killed under load, {engine_name}", kills=kills, receipts_kept=receipts,
        seconds_until_all_doubt_was_settled=[round(seconds, 1) for seconds in settled_after])  # fmt: skip


def _settled(shop: Shop, known: int) -> bool:
    open_ = "SELECT count(*) FROM charge WHERE id <= :id AND status IN ('processing', 'in_doubt')"
    return shop.value(open_, id=known) == 0


def test_recovery_watches_through_a_time_without_storage(
    cluster: Cluster, database: str, bank: RunningBank, tmp_path: Path
) -> None:
    """Started before the database is there, cut off later; it works each time when it is back, and stops cleanly."""
    url = cluster.url(database)
    processes = Processes(url, bank.url, tmp_path)
    cluster.stop("immediate")
    try:
        processes.recover()
        until(lambda: "recovery_waits" in processes.log("recovery"), 60)
        cluster.start()
        shop = Shop(url, tmp_path)
        for _ in range(2):
            with shop.app.app_context():
                protocol.claim(purchase(order()), bank.gateway, -rows.RECOVERY_MARGIN)
            until(lambda: unsettled(shop) == 0, 60)
            cluster.restart("immediate")
            with shop.app.app_context():
                db.engine.dispose()  # This process's own connections broke too.
        assert shop.charges() == {"canceled": 2}
        assert processes.stop() == {"recovery": 0}
        shop.close()
    finally:
        processes.end()
        if not (cluster.data / "postmaster.pid").exists():
            cluster.start()
