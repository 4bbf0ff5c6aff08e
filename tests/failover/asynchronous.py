"""Why replication must be synchronous: a leader whose Patroni is frozen goes on, and all that it commits is lost.

`make soak` runs this; pytest does not find it by its name. The audit finds what was lost, and reconcile mends it.
"""

from pathlib import Path

import pytest

from app import checks
from tests.conftest import migrate
from tests.failover.world import world
from tests.faults.conftest import ENOUGH_STOCK
from tests.faults.live import live_shop
from tests.faults.load import shoppers_at
from tests.faults.rounds import report
from tests.gateways.bank import running_bank, until
from tests.recovery import is_listed, recover_and_audit, run_audit
from tests.shops import Shop

RECEIPTS = 60

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.timeout(600)]


def test_what_a_leader_without_a_watchdog_loses_is_found_and_mended(tmp_path: Path) -> None:
    with (
        world(synchronous=False) as made,
        running_bank(f"sqlite:///{tmp_path}/running/bank.sqlite", tmp_path) as bank,
    ):
        url = checks.database(made.urls["nothing"])
        migrate(url)
        shop = Shop(url, tmp_path)
        shop.execute(ENOUGH_STOCK)
        shop.gateway = bank.gateway
        shop.gateways.use(bank.gateway)
        with live_shop(made.urls["nothing"], bank.url, tmp_path) as live:
            with shoppers_at(live.url) as shoppers:
                shoppers.wait_for_receipts(3)
                old = made.nodes.must_lead()
                old.freeze_patroni()
                until(lambda: any(node.is_leader() for node in made.nodes.all if node is not old), 90)
                shoppers.wait_for_receipts(RECEIPTS)  # The shop is still connected to the old leader.
            shop.close()
            old.thaw_patroni()
            until(made.nodes.are_whole, 120)
        audit = run_audit(shop)
        lost = [entry.key for entry in bank.gateway.statement() if is_listed(audit, entry.key)]
        assert lost
        with shop.app.app_context():
            for key in lost:
                assert shop.app.test_cli_runner().invoke(args=["reconcile", "--adopt", key]).exit_code == 0
        assert len(recover_and_audit(shop).adopted) == len(lost)
        shop.close()
    report("two leaders, asynchronous, without a watchdog", receipts=len(shoppers.receipts), payments_lost=len(lost))
