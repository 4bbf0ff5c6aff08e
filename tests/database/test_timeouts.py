"""Time-outs that `db upgrade` sets in PostgreSQL, and what happens when a lock or a commit takes too long."""

import subprocess
import sys
from collections.abc import Iterator
from threading import Event, Thread

import psycopg2
import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.engine import make_url

from app import database, timeouts
from app.charges import protocol
from app.charges.protocol import Busy
from app.charges.tokens import Token
from app.database import RolledBack, db, deadline, reading, transaction
from tests.charges.gateways import ScriptedGateway
from tests.conftest import migrate
from tests.factories import SECRET, order, purchase
from tests.gateways.bank import until
from tests.postgres import Cluster, Server, private_cluster
from tests.shops import Shop

WAITING = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'"


@pytest.fixture
def bare_cluster() -> Iterator[Cluster]:
    """Yield a cluster without time-outs in its configuration, as Debian installs it."""
    with private_cluster(durable=False) as cluster:
        conf = cluster.data / "postgresql.conf"
        lines = [line for line in conf.read_text().splitlines() if not line.startswith(tuple(timeouts.MILLISECONDS))]
        conf.write_text("\n".join(lines) + "\n")
        cluster.restart()
        yield cluster


@pytest.mark.postgres
@pytest.mark.slow
def test_db_upgrade_sets_the_time_outs_that_startup_and_readyz_require(bare_cluster: Cluster, tmp_path: object) -> None:
    url = bare_cluster.url(bare_cluster.create())
    migrate(url)
    shop = Shop(url, tmp_path)  # type: ignore[arg-type]
    with shop.app.app_context(), reading() as tx:
        assert timeouts.missing(tx) == []
    assert shop.shopper().client.get("/readyz").text == "ready\n"
    shop.close()
    name = make_url(url).database
    bare_cluster.execute(f'ALTER ROLE payonce IN DATABASE "{name}" RESET lock_timeout')
    response = shop.shopper().client.get("/readyz")
    assert (response.status_code, response.text) == (
        503, "the database has no lock_timeout; run: flask --app wsgi db upgrade\n",
    )  # fmt: skip
    env = {"SECRET_KEY": SECRET, "DATABASE_URL": url, "PATH": ""}
    start = subprocess.run([sys.executable, "-c", "import wsgi"], env=env, capture_output=True, text=True)
    assert start.stderr == "PayOnce can't start: the database has no lock_timeout; run: flask --app wsgi db upgrade\n"
    shop.close()


@pytest.fixture
def engine_name() -> str:
    """Run these tests on PostgreSQL only: they test its locks."""
    return "postgresql"


@pytest.fixture
def token(app: Flask) -> Token:
    """Return the token of a checkout form that was shown before the products were locked."""
    return order()


@pytest.fixture
def locked(shop: Shop, token: Token) -> Iterator[None]:
    """Lock all products in a transaction that never ends, as if its host had lost its power."""
    dsn = make_url(shop.database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    other = psycopg2.connect(dsn)
    with other.cursor() as cursor:
        cursor.execute("SELECT * FROM product FOR UPDATE")
    yield
    other.close()


@pytest.mark.postgres
def test_a_claim_that_waits_for_a_lost_host_ends_with_nothing_charged(shop: Shop, token: Token, locked: None) -> None:
    gateway = ScriptedGateway()
    with pytest.raises(Busy):
        protocol.pay(purchase(token), gateway, 3.0)
    assert (gateway.asked, shop.charges()) == ([], {})


@pytest.mark.postgres
def test_a_claim_that_gets_its_lock_after_its_deadline_charges_nothing(
    shop: Shop, token: Token, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock is given back, but by then the shopper has probably left."""
    now = [0.0]
    monkeypatch.setattr(database, "monotonic", lambda: now[0])
    url = make_url(shop.database_url).set(drivername="postgresql")
    other = psycopg2.connect(url.render_as_string(hide_password=False))

    def give_back_too_late() -> None:
        until(lambda: postgres.execute(WAITING, url.database))
        now[0] = protocol.CLAIM_SECONDS + 1
        other.close()

    with other.cursor() as cursor:
        cursor.execute("SELECT * FROM product FOR UPDATE")
    thread = Thread(target=give_back_too_late, daemon=True)
    thread.start()
    gateway = ScriptedGateway()
    with pytest.raises(Busy):
        protocol.pay(purchase(token), gateway, 3.0)
    thread.join(60)
    assert (gateway.asked, shop.charges()) == ([], {})


@pytest.mark.postgres
def test_a_lost_host_does_not_stop_the_catalogue(shop: Shop, locked: None) -> None:
    assert shop.shopper().open("/").status == 200


@pytest.mark.postgres
def test_no_statement_begins_after_the_deadline(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(database, "monotonic", lambda: now[0])
    with pytest.raises(RolledBack), deadline(8.0), transaction() as tx:
        tx.execute(text("UPDATE product SET stock = 0"))
        now[0] = 9.0
        tx.execute(text("SELECT 1"))
    with reading() as tx:
        assert tx.execute(text("SELECT count(*) FROM product WHERE stock = 0")).scalar() == 0


@pytest.mark.postgres
def test_no_commit_begins_after_the_deadline(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(database, "monotonic", lambda: now[0])
    with pytest.raises(RolledBack), deadline(8.0), transaction() as tx:
        tx.execute(text("UPDATE product SET stock = 0"))
        now[0] = 9.0
    with reading() as tx:
        assert tx.execute(text("SELECT count(*) FROM product WHERE stock = 0")).scalar() == 0


@pytest.mark.postgres
def test_a_deadlock_ends_with_one_transaction_rolled_back(app: Flask) -> None:
    """PostgreSQL rolls one of them back after `deadlock_timeout`. It raises RolledBack, so it can be tried again."""
    lock = text("UPDATE product SET stock = stock WHERE id = :id")
    first_has_one, second_has_two, results = Event(), Event(), []

    def wait_for_the_other(mine: int, other: int, ready: Event, rival: Event) -> None:
        with app.app_context():
            try:
                with transaction() as tx:
                    tx.execute(lock, {"id": mine})
                    ready.set()
                    assert rival.wait(30)
                    tx.execute(lock, {"id": other})
                results.append("committed")
            except RolledBack:
                results.append("rolled back")

    threads = [
        Thread(target=wait_for_the_other, args=(1, 2, first_has_one, second_has_two)),
        Thread(target=wait_for_the_other, args=(2, 1, second_has_two, first_has_one)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(results) == ["committed", "rolled back"]


@pytest.mark.postgres
def test_a_read_only_server_is_unreachable_and_not_ready(app: Flask, shop: Shop) -> None:
    """A server is read-only after a failover, if the connection still leads to the old primary."""
    with pytest.raises(database.Unreachable), transaction() as tx:
        tx.execute(text("SET TRANSACTION READ ONLY"))
        tx.execute(text("UPDATE product SET stock = 0"))
    name = make_url(shop.database_url).database
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'))
    try:
        db.engine.dispose()
        response = shop.shopper().client.get("/readyz")
        assert (response.status_code, response.text) == (503, "the database is read-only\n")
    finally:
        with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("SET default_transaction_read_only = off"))
            connection.execute(text(f'ALTER DATABASE "{name}" RESET default_transaction_read_only'))
        db.engine.dispose()
