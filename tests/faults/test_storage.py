"""The storage is full, gone at the start, or gone in use: pages say what is true, and nothing stays broken."""

import json
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from flask import Flask
from sqlalchemy import event, make_url

from app.charges import protocol
from app.charges.states import PROCESSING, SUCCEEDED
from app.database import db
from app.gateways.base import Answer, Card, Payment
from tests.factories import order, purchase, ready_to_pay
from tests.faults.commits import PostgresProxy
from tests.faults.rounds import TIMES, say
from tests.gateways.bank import at_once
from tests.healing import heal
from tests.postgres import Cluster
from tests.shops import Shop

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180 + 60 * TIMES)]


class Disk:
    """How large the shop's SQLite database may grow: what a full disk says, SQLite says here."""

    def __init__(self, shop: Shop) -> None:
        self.full = False
        with shop.app.app_context():
            event.listen(db.engine, "begin", self._limit)
            db.engine.dispose()

    def _limit(self, connection: Any) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar() if self.full else 1_000_000_000
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")


@pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)
def test_a_disk_that_is_full_charges_nobody(shop: Shop) -> None:
    disk, refused, paid = Disk(shop), 0, 0
    shop.execute("UPDATE product SET stock = stock + 1000000, stocked = stocked + 1000000")
    while refused < 5 * TIMES:
        with shop.app.app_context():
            press = purchase(order())
        disk.full = True
        with shop.app.app_context():
            try:
                assert protocol.pay(press, shop.gateway, 3.0).receipt_id == press.receipt_id
                paid += 1  # There was room in the pages that it has.
            except protocol.ClaimUnknown:
                refused += 1
        disk.full = False
        assert len(shop.statement()) == sum(shop.charges().values())
        heal(shop)
    assert paid + refused >= 5 * TIMES
    say("disk full, SQLite", claims_refused=refused, claims_that_found_room=paid)


@pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)
def test_the_page_of_a_full_disk_says_wait_and_the_form_works_later(shop: Shop) -> None:
    shopper = shop.shopper()
    form = ready_to_pay(shopper, name="x" * 100, email="x" * 60 + "@example.org")
    with shop.app.app_context():
        db.engine.dispose()
    status, heading, text = _with_a_full_disk(form.submit)
    assert (status, heading) == (503, "Please wait before you pay again")
    assert "this try took no money" in text
    assert (shop.statement(), shop.charges()) == ([], {})
    assert form.submit().heading == "Paid: €24.00"
    heal(shop)


SHARED_MEMORY = 32768
"""Bytes of the file that SQLite opens a database with. Nothing that is written may be longer."""


def _with_a_full_disk(submit: Callable[[], Any]) -> Any:
    """In a process of its own, that may read everything and write next to nothing."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (SHARED_MEMORY, resource.RLIM_INFINITY))
            page = submit()
            os.write(writing, json.dumps([page.status, page.heading, page.text]).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        said = answer.read()
    os.waitpid(pid, 0)
    assert said, "the process died"
    return json.loads(said)


class FillsTheDisk:
    """The bank takes the money, and then there is no room to write that down."""

    def __init__(self, shop: Shop, disk: Disk, limit: Callable[[], None]) -> None:
        self.inner: Any = shop.gateway
        self.limit = limit

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def charge(self, payment: Payment, card: Card | None, timeout: float) -> Answer:
        answer: Answer = self.inner.charge(payment, card, timeout)
        self.limit()
        return answer


@pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)
def test_a_disk_that_fills_between_claim_and_record_is_settled_later(app: Flask, shop: Shop) -> None:
    press = purchase(order())
    db.engine.dispose()
    log = Path(str(make_url(shop.database_url).database) + "-wal")

    def no_more() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size, resource.RLIM_INFINITY))

    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            gateway: Any = FillsTheDisk(shop, Disk(shop), no_more)
            charge = protocol.pay(press, gateway, 3.0)
            code = 0 if (charge.receipt_id, charge.status) == (press.receipt_id, PROCESSING) else 2
        finally:
            os._exit(code)
    assert os.WEXITSTATUS(os.waitpid(pid, 0)[1]) == 0
    assert (shop.charges(), len(shop.statement())) == ({PROCESSING: 1}, 1)
    heal(shop)
    assert shop.charges() == {SUCCEEDED: 1}


def ready(shop: Shop) -> httpx.Response:
    return shop.shopper().client.get("/readyz")


@pytest.fixture
def proxied_shop(open_shop: Callable[..., Shop], proxy: PostgresProxy, database: str) -> Shop:
    return open_shop(proxy.url(database))


@pytest.mark.postgres
def test_a_database_that_goes_away_in_use_is_missed_and_found_again(
    proxied_shop: Shop, proxy: PostgresProxy, cluster: Cluster, database: str
) -> None:
    """Every page says what is true of the money; when it is back, the same process and the same form work."""
    shop, shopper = proxied_shop, proxied_shop.shopper()
    paid = ready_to_pay(shopper, email="first@example.org").submit()
    form = ready_to_pay(shopper)
    for _ in range(3 * TIMES):
        proxy.go_away()
        answers = at_once(*[lambda: ready(shop).status_code] * 4)
        assert (answers, shopper.client.get("/healthz").status_code) == ([503] * 4, 200)
        refused = form.submit()
        assert refused.status == 503
        assert "took no money" in refused.text
        assert refused.answer.headers["Retry-After"] == "5"
        assert paid.reload().status == 503
        assert "Do not pay again." in paid.reload().text
        assert {shopper.open(path).status for path in ("/", "/basket", "/checkout", "/receipts")} == {503}
        proxy.come_back()
        assert ready(shop).status_code == 200
        assert paid.reload().heading == "Paid: €24.00"
    assert form.submit().heading == "Paid: €24.00"
    assert len(shop.statement()) == 2
    heal(shop)
    no_connection_leaked(shop, cluster, database)


def no_connection_leaked(shop: Shop, cluster: Cluster, database: str) -> None:
    with shop.app.app_context():
        assert db.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    counted = "SELECT count(*), count(*) FILTER (WHERE state <> 'idle') FROM pg_stat_activity WHERE datname = %s"
    [(connections, busy)] = cluster.execute(counted, database)
    assert (connections <= 20, busy) == (True, 0)


@pytest.mark.postgres
def test_a_database_that_is_away_at_the_start(
    open_shop: Callable[..., Shop], proxy: PostgresProxy, database: str, tmp_path: Path
) -> None:
    """The process starts, says that it is not ready, and is as soon as the database is there."""
    proxy.go_away()
    shop = Shop(proxy.url(database), tmp_path)
    assert ready(shop).status_code == 503
    assert shop.shopper().open("/").status == 503
    proxy.come_back()
    assert ready(shop).text == "ready\n"
    form = ready_to_pay(shop.shopper())
    assert form.submit().heading == "Paid: €24.00"
    heal(shop)
    shop.close()


@pytest.mark.postgres
def test_backends_that_are_terminated_under_the_shops_feet(
    open_shop: Callable[..., Shop], cluster: Cluster, database: str
) -> None:
    """Between any two statements of a payment: either it is done again, or the page says wait. Never twice."""
    shop, ended = open_shop(cluster.url(database)), 0
    for _ in range(5 * TIMES):
        form = ready_to_pay(shop.shopper(), email=f"{ended}@example.org")

        def terminate() -> int:
            return sum(cluster.terminate(database) for _ in range(3))

        page, killed = at_once(form.submit, terminate)
        ended += killed + 1
        again = page
        for _ in range(3):  # A backend that was told to end may take one statement more with it.
            again = again if again.status == 200 else form.submit()
        assert again.status == 200, again.text
        # What was ended while nobody used it, the next one may meet; not the one after.
        assert 200 in [shop.shopper().open("/").status for _ in range(2)]
    heal(shop)
    assert sum(shop.charges().values()) == 5 * TIMES
    assert len(shop.statement()) == shop.charges()[SUCCEEDED] > 0
    no_connection_leaked(shop, cluster, database)
    say("backends terminated", times=ended)
