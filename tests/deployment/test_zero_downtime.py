"""Two hosts behind a proxy are reloaded, upgraded, restarted and killed while shoppers buy.

Real gunicorns, PostgreSQL, sandbox bank and proxies. The two hosts are processes on this machine.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from tests.deployment.buyers import Buyers, buying
from tests.deployment.proxies import Proxy
from tests.gateways.bank import RunningBank, running_bank, until
from tests.processes.running import RunningShop
from tests.server.masters import children, end, upgrade

ROUNDS = int(os.environ.get("DOWNTIME_ROUNDS", "1"))
"""`make soak` sets more."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.postgres,
    pytest.mark.xdist_group("deployment"),
    pytest.mark.timeout(600 * ROUNDS),
    pytest.mark.parametrize("engine_name", ["postgresql"], indirect=True),
]


@dataclass
class Hosts:
    """Two shops on one database behind one proxy."""

    shops: list[RunningShop]
    proxy: Proxy
    bank: RunningBank

    def check(self, buyers: Buyers) -> None:
        """Assert that each order was charged once, in the books and at the bank, and that no process had an error."""
        engine = create_engine(self.shops[0].database_url)
        with engine.connect() as connection:
            charges = connection.execute(text("SELECT receipt_id, status, key, order_id FROM charge")).all()
        engine.dispose()
        paid = [charge for charge in charges if charge.status == "succeeded"]
        assert len({charge.order_id for charge in paid}) == len(paid)
        # A request that was cut while it paid leaves its charge to recovery.
        known = {charge.receipt_id for charge in charges if charge.status in {"succeeded", "processing", "in_doubt"}}
        assert {receipt.rpartition("/")[2] for receipt in buyers.receipts} <= known
        for charge in charges:
            moved = [("charge", 2400)] if charge.status == "succeeded" else []
            assert self.bank.moved(str(charge.key)) == moved or charge.status in {"processing", "in_doubt"}
        for shop in self.shops:
            assert "Traceback" not in shop.log.read_text()


@pytest.fixture(params=["haproxy", "nginx"])
def hosts(request: pytest.FixtureRequest, own_url: str, tmp_path: Path) -> Iterator[Hosts]:
    engine = create_engine(own_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE product SET stock = 1000000, stocked = 1000000"))
    engine.dispose()
    settings = {"DRAIN_SECONDS": "5", "TRUSTED_PROXIES": "127.0.0.1"}
    with running_bank(f"sqlite:///{tmp_path}/bank/bank.sqlite", tmp_path) as bank:
        shops = [RunningShop(own_url, bank.url, tmp_path, 2, settings).start() for _ in range(2)]
        proxy = Proxy(request.param, tmp_path, [shop.port for shop in shops]).start()
        yield Hosts(shops, proxy, bank)
        proxy.stop()
        for shop in shops:
            assert shop.process
            with suppress(ProcessLookupError):  # The group also has a new master, after a test that failed.
                os.killpg(shop.process.pid, signal.SIGKILL)
            shop.process.wait(30)


def reload(shop: RunningShop) -> None:
    """Send SIGHUP and wait until only new workers run."""
    assert shop.process
    master = shop.process.pid
    before = set(children(master))
    shop.process.send_signal(signal.SIGHUP)
    until(lambda: len(children(master)) >= shop.workers and not set(children(master)) & before, 90)


def test_reload_upgrade_and_rolling_restart_fail_no_request(hosts: Hosts) -> None:
    first, second = hosts.shops
    with buying(hosts.proxy) as buyers:
        for _ in range(ROUNDS):
            buyers.wait(4)
            reload(first)
            buyers.wait(4)
            new = upgrade(second)
            assert second.stop() == 0, "the master before, whose shoppers are served by the new one"
            buyers.wait(4)
            assert first.stop() == 0
            buyers.wait(4)
            first.start()
            end(new)
            buyers.wait(4)
            second.start()
    hosts.check(buyers)


def test_a_host_that_is_killed_costs_no_payment(hosts: Hosts) -> None:
    """Shoppers whose request was cut read the proxy's page, send the same form again, and are charged once."""
    with buying(hosts.proxy, patient=True) as buyers:
        for _ in range(ROUNDS):
            for shop in hosts.shops:
                buyers.wait(4)
                assert shop.process
                os.killpg(shop.process.pid, signal.SIGKILL)
                shop.process.wait(30)
                buyers.wait(4)
                shop.start()
    hosts.check(buyers)
