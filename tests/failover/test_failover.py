"""The leader of three PostgreSQL nodes is lost again and again while shoppers pay, and no process of the shop restarts.

Patroni, etcd, HAProxy, pgbouncer, PostgreSQL, gunicorn, recovery and the sandbox bank are real processes, and the first
four run with the configuration in deploy/ (without the watchdog, which needs a device). Three shops work on one
database: one reaches it directly, one by HAProxy, one by pgbouncer and HAProxy. How long each took no payments is
measured and printed, not asserted.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle, islice
from pathlib import Path

import pytest

from app import checks, current
from tests.conftest import migrate
from tests.failover.world import World, world
from tests.faults.conftest import ENOUGH_STOCK
from tests.faults.live import LiveShop, live_shop
from tests.faults.load import PATIENCE, Shoppers, shoppers_at
from tests.faults.rounds import report
from tests.gateways.bank import RunningBank, running_bank, until
from tests.recovery import count_unsettled, recover_and_audit
from tests.shops import Shop

FAILOVERS = int(os.environ.get("FAILOVERS", "2"))
LONG = FAILOVERS > 2

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.timeout(300 + 120 * FAILOVERS)]

SHOPPERS = 2
"""Shoppers per shop."""

Refused = tuple[str, dict[str, float]]
"""A kind of failure, and the seconds without a payment by what stands between shop and database."""


def kill(world: World) -> Callable[[], None]:
    """Kill all processes of the leader at once. Return what starts them again."""
    leader = world.nodes.must_lead()
    leader.program.close()
    return leader.program.start


def freeze(world: World) -> Callable[[], None]:
    """Stop all processes of the leader; their sockets stay open. The old leader later wakes beside the new one."""
    leader = world.nodes.must_lead()
    leader.freeze()
    return leader.thaw


def freeze_patroni(world: World) -> Callable[[], None]:
    """Stop only the leader's Patroni. Its PostgreSQL goes on beside that of the new leader, as without a watchdog."""
    leader = world.nodes.must_lead()
    leader.freeze_patroni()
    until(lambda: any(node.is_leader() for node in world.nodes.all if node is not leader), 90)
    return leader.thaw_patroni


def cut_off(world: World) -> Callable[[], None]:
    """Take down the leader's link: its own Patroni must find out that it is not the leader any more."""
    leader, switch = world.nodes.must_lead(), world.switch
    assert switch
    switch.down(leader.name)
    return lambda: switch.up(leader.name)


def switch_over(world: World) -> Callable[[], None]:
    world.nodes.switch_over()
    return lambda: None


def freeze_standby(world: World) -> Callable[[], None]:
    """Stop a synchronous standby: every commit waits for it until PostgreSQL drops it."""
    leader = world.nodes.must_lead()
    standby = next(node for node in world.nodes.all if node is not leader)
    standby.freeze()
    return standby.thaw


WAKES_AFTER = {freeze_patroni: 20.0}
"""Seconds for which to wait for payments at each shop, if some may have none until the leader wakes.

A shop without HAProxy stays with a leader whose Patroni is frozen, if its URL names it before the new one.
"""

KINDS = [kill, freeze, cut_off, switch_over, freeze_patroni, freeze_standby] if LONG else [kill, freeze]


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[RunningBank]:
    with running_bank(f"sqlite:///{tmp_path}/running/bank.sqlite", tmp_path) as bank:
        yield bank


@contextmanager
def shops(urls: dict[str, str], bank: RunningBank, folder: Path) -> Iterator[dict[str, LiveShop]]:
    """Yield a shop per URL, by what stands between it and the database. The first one runs recovery, too."""
    found: dict[str, LiveShop] = {}
    with ExitStack() as stack:
        for name, url in urls.items():
            own = folder / name.replace(" ", "-")
            own.mkdir()
            found[name] = stack.enter_context(live_shop(url, bank.url, own))
        next(iter(found.values())).recover()
        yield found


@contextmanager
def deployed(tmp_path: Path) -> Iterator[tuple[World, Shop]]:
    """Yield a deployment whose database was made by pgbouncer, and a shop in this process for the audit."""
    with world(links=LONG, kept=tmp_path / "nodes") as made:
        urls = {name: checks.database(url) for name, url in made.urls.items()}
        migrate(urls["pgbouncer and HAProxy"])
        shop = Shop(urls["nothing"], tmp_path)
        shop.execute(ENOUGH_STOCK)
        yield made, shop
        shop.close()


def test_no_failover_loses_a_receipt_or_charges_twice(bank: RunningBank, tmp_path: Path) -> None:
    with deployed(tmp_path) as (world, shop):
        check_failovers(world, shop, bank, tmp_path)


def check_failovers(world: World, shop: Shop, bank: RunningBank, tmp_path: Path) -> None:
    shop.gateway = bank.gateway
    shop.gateways.use(bank.gateway)
    with shops(world.urls, bank, tmp_path) as live:
        until(lambda: all(len(each.workers()) == each.worker_count for each in live.values()), 60)
        processes = {name: (each.workers(), sorted(each.running)) for name, each in live.items()}
        with ExitStack() as stack:
            load = {
                name: stack.enter_context(shoppers_at(each.url, SHOPPERS, seed))
                for seed, (name, each) in enumerate(live.items())
            }
            for each in load.values():
                each.orders_may_vanish = True
            refused = [fail_over(world, kind, load) for kind in islice(cycle(KINDS), FAILOVERS)]
        until(lambda: count_unsettled(shop) == 0, 150)
        with naming_lost_receipts(shop, load):
            recover_and_audit(shop)
        receipts = sum(each.check() for each in load.values())
        assert {name: (each.workers(), sorted(each.running)) for name, each in live.items()} == processes
        assert all(process.poll() is None for each in live.values() for process in each.running.values())
    taken = Counter(entry.key for entry in bank.gateway.statement() if entry.kind == "charge")
    assert set(taken.values()) == {1}
    report("failovers under Patroni", failovers=FAILOVERS, receipts_kept=receipts, charges_at_the_bank=len(taken),
           baskets_lost=sum(each.vanished for each in load.values()))  # fmt: skip
    for line in summary(refused):
        print(line, flush=True)


@contextmanager
def naming_lost_receipts(shop: Shop, load: dict[str, Shoppers]) -> Iterator[None]:
    """If the block fails, add a line for each receipt that a shopper saw and whose charge is not in the books."""
    try:
        yield
    except AssertionError as error:
        with shop.app.app_context():
            for name, each in load.items():
                for receipt, shown in each.receipts.items():
                    key = current.tokens().read(each.tokens[receipt]).key
                    if not shop.value(f"SELECT count(*) FROM charge WHERE key = '{key}'"):
                        error.add_note(f"{name}: {receipt} showed {shown}, but its charge {key} is not in the books")
        raise


def fail_over(world: World, kind: Callable[[World], Callable[[], None]], load: dict[str, Shoppers]) -> Refused:
    """Lose the leader, wait until each shop takes payments again, and bring the lost node back.

    Return the kind with the seconds that each shop took no payment.
    """
    for each in load.values():
        each.wait_for_receipts(3)
    began = time.monotonic()
    mend = kind(world)
    lost = time.monotonic()
    for each in load.values():
        each.wait_for_payments(SHOPPERS + 1, lost, WAKES_AFTER.get(kind, PATIENCE))  # Those under way may be confirmed.
    mend()
    until(world.nodes.are_whole, 180)
    vanished = sum(each.vanished for each in load.values())
    print(
        f"  {kind.__name__}: whole after {time.monotonic() - began:.0f} s, {vanished} baskets lost so far", flush=True
    )
    return kind.__name__, {name: each.outage(began) for name, each in load.items()}


def summary(refused: list[Refused]) -> Iterator[str]:
    """Yield a line per kind and way: the median and the longest time without a payment."""
    for kind in dict.fromkeys(kind for kind, _ in refused):
        for way in refused[0][1]:
            seconds = sorted(each[way] for name, each in refused if name == kind)
            yield f"  {kind}, {way} in between: {seconds[len(seconds) // 2]:.1f} s, at most {seconds[-1]:.1f} s"
