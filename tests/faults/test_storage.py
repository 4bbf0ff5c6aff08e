"""The storage is full, or away at the start or later. Pages say what is true, and everything works again afterwards."""

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
from tests.faults.conftest import ENOUGH_STOCK
from tests.faults.leaks import assert_no_connection_leaked
from tests.faults.rounds import TIMES, report
from tests.gateways.bank import at_once
from tests.postgres import Cluster
from tests.recovery import recover_and_audit
from tests.shops import Shop

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180 + 60 * TIMES)]


class Disk:
    """A limit on the size of the shop's SQLite database. SQLite reports it with the same error as a full disk."""

    def __init__(self, shop: Shop) -> None:
        self.full = False
        with shop.app.app_context():
            event.listen(db.engine, "begin", self._limit)
            db.engine.dispose()

    def _limit(self, connection: Any) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar() if self.full else 1_000_000_000
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")


@pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)
def test_no_charge_is_made_without_its_claim_on_a_full_disk(shop: Shop) -> None:
    disk, refused, paid = Disk(shop), 0, 0
    shop.execute(ENOUGH_STOCK)
    while refused < 5 * TIMES:
        with shop.app.app_context():
            pressed = purchase(order())
        disk.full = True
        with shop.app.app_context():
            try:
                assert protocol.pay(pressed, shop.gateway, 3.0).receipt_id == pressed.receipt_id
                paid += 1  # The pages that the file has already had enough free space.
            except protocol.ClaimUnknown:
                refused += 1
        disk.full = False
        assert len(shop.statement()) == sum(shop.charges().values())
        recover_and_audit(shop)
    assert paid + refused >= 5 * TIMES
    report("disk full, SQLite", claims_refused=refused, claims_that_fitted=paid)


@pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)
def test_on_a_full_disk_the_page_asks_to_wait_and_the_form_works_later(shop: Shop) -> None:
    shopper = shop.shopper()
    form = ready_to_pay(shopper, name="x" * 100, email="x" * 60 + "@example.org")
    with shop.app.app_context():
        db.engine.dispose()
    status, heading, text = _on_a_full_disk(form.submit)
    assert (status, heading) == (503, "Please wait before you pay again")
    assert "this try took no money" in text
    assert (shop.statement(), shop.charges()) == ([], {})
    assert form.submit().heading == "Paid: €24.00"
    recover_and_audit(shop)


SHARED_MEMORY = 32768
"""Size in bytes of the -shm file, which SQLite needs to open a database. No file may grow beyond it."""


def _on_a_full_disk(submit: Callable[[], Any]) -> Any:
    """Submit a form in a forked process that can write almost nothing. Return the page's status, heading and text."""
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
    with os.fdopen(reading) as pipe:
        page_json = pipe.read()
    os.waitpid(pid, 0)
    assert page_json, "the process died"
    return json.loads(page_json)


class DiskFillingGateway:
    """A gateway that takes the money and then calls `limit`, so that the outcome can't be written."""

    def __init__(self, shop: Shop, limit: Callable[[], None]) -> None:
        self.inner: Any = shop.gateway
        self.limit = limit

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def charge(self, payment: Payment, card: Card | None, timeout: float) -> Answer:
        answer: Answer = self.inner.charge(payment, card, timeout)
        self.limit()
        return answer


@pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)
def test_a_charge_is_settled_later_if_the_disk_fills_between_claim_and_record(app: Flask, shop: Shop) -> None:
    pressed = purchase(order())
    db.engine.dispose()
    log = Path(str(make_url(shop.database_url).database) + "-wal")

    def fill_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size, resource.RLIM_INFINITY))

    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            gateway: Any = DiskFillingGateway(shop, fill_disk)
            charge = protocol.pay(pressed, gateway, 3.0)
            code = 0 if (charge.receipt_id, charge.status) == (pressed.receipt_id, PROCESSING) else 2
        finally:
            os._exit(code)
    assert os.WEXITSTATUS(os.waitpid(pid, 0)[1]) == 0
    assert (shop.charges(), len(shop.statement())) == ({PROCESSING: 1}, 1)
    recover_and_audit(shop)
    assert shop.charges() == {SUCCEEDED: 1}


def readyz(shop: Shop) -> httpx.Response:
    return shop.shopper().client.get("/readyz")


@pytest.fixture
def proxied_shop(open_shop: Callable[..., Shop], proxy: PostgresProxy, database: str) -> Shop:
    return open_shop(proxy.url(database))


@pytest.mark.postgres
def test_the_shop_reports_a_lost_database_and_works_when_it_is_back(
    proxied_shop: Shop, proxy: PostgresProxy, cluster: Cluster, database: str
) -> None:
    """Each page says what is true about the money. Afterwards the same process and the same form work."""
    shop, shopper = proxied_shop, proxied_shop.shopper()
    paid = ready_to_pay(shopper, email="first@example.org").submit()
    form = ready_to_pay(shopper)
    for _ in range(3 * TIMES):
        proxy.go_offline()
        statuses = at_once(*[lambda: readyz(shop).status_code] * 4)
        assert (statuses, shopper.client.get("/healthz").status_code) == ([503] * 4, 200)
        refused = form.submit()
        assert refused.status == 503
        assert "took no money" in refused.text
        assert refused.response.headers["Retry-After"] == "5"
        assert paid.reload().status == 503
        assert "Do not pay again." in paid.reload().text
        assert {shopper.open(path).status for path in ("/", "/basket", "/checkout", "/receipts")} == {503}
        proxy.go_online()
        assert readyz(shop).status_code == 200
        assert paid.reload().heading == "Paid: €24.00"
    assert form.submit().heading == "Paid: €24.00"
    assert len(shop.statement()) == 2
    recover_and_audit(shop)
    assert_pool_is_idle(shop, cluster, database)


def assert_pool_is_idle(shop: Shop, cluster: Cluster, database: str) -> None:
    with shop.app.app_context():
        assert db.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    assert_no_connection_leaked(cluster, database, pools=1)


@pytest.mark.postgres
def test_the_shop_starts_without_a_database(
    open_shop: Callable[..., Shop], proxy: PostgresProxy, database: str, tmp_path: Path
) -> None:
    """The process starts, reports that it is not ready, and is ready as soon as the database is there."""
    proxy.go_offline()
    shop = Shop(proxy.url(database), tmp_path)
    assert readyz(shop).status_code == 503
    assert shop.shopper().open("/").status == 503
    proxy.go_online()
    assert readyz(shop).text == "ready\n"
    form = ready_to_pay(shop.shopper())
    assert form.submit().heading == "Paid: €24.00"
    recover_and_audit(shop)
    shop.close()


@pytest.mark.postgres
def test_backends_terminated_during_payments(open_shop: Callable[..., Shop], cluster: Cluster, database: str) -> None:
    """Each payment succeeds, or the page asks to wait. The form that is sent again never pays twice."""
    shop, terminated = open_shop(cluster.url(database)), 0
    for _ in range(5 * TIMES):
        form = ready_to_pay(shop.shopper(), email=f"{terminated}@example.org")

        def terminate() -> int:
            return sum(cluster.terminate(database) for _ in range(3))

        page, count = at_once(form.submit, terminate)
        terminated += count + 1
        again = page
        for _ in range(3):  # Another connection may be terminated already, which only its next statement notices.
            again = again if again.status == 200 else form.submit()
        assert again.status == 200, again.text
        # The next request may fail on a connection that was terminated while idle, but the request after it must not.
        assert 200 in [shop.shopper().open("/").status for _ in range(2)]
    recover_and_audit(shop)
    assert sum(shop.charges().values()) == 5 * TIMES
    assert len(shop.statement()) == shop.charges()[SUCCEEDED] > 0
    assert_pool_is_idle(shop, cluster, database)
    report("backends terminated", times=terminated)
