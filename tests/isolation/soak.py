"""The long exploration for `make soak`: three preemptions, three actors, cuts, and waits that end without their lock.

It ends after --minutes. Each exploration gets an equal share of what is left. One that needs more takes its schedules
in random order, and its line says how many are left at least.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from time import monotonic, time

from tests.isolation.actors import Broken
from tests.isolation.database import opened
from tests.isolation.pairs import BY_NAME, PAIRS, WITH_CUTS
from tests.isolation.schedules import Bound, Report, explore, explore_cuts
from tests.isolation.stage import Stage
from tests.isolation.triples import TRIPLES
from tests.isolation.waits import explore_probes, explore_waits
from tests.postgres import private_cluster


def explorations(stage: Stage) -> Iterator[Callable[..., Report]]:
    """Yield functions that explore within a `bound`."""
    for pair in PAIRS:
        yield partial(explore, stage, pair, preemptions=3)
    for prepare in WITH_CUTS:
        yield partial(explore_cuts, stage, BY_NAME[prepare.__name__], preemptions=1)
        yield partial(explore_probes, stage, BY_NAME[prepare.__name__], preemptions=2)
    for pair in PAIRS:
        if pair.name == "success_and_decline":
            continue  # Its bank contradicts itself: if the success is not recorded, only the audit can find the money.
        yield partial(explore_waits, stage, pair, preemptions=2)
    for triple in TRIPLES:  # At the end, because they are the largest, and the shares grow.
        yield partial(explore, stage, triple)


def run(seconds: float, seed: int) -> None:
    """Explore on a PostgreSQL of its own for at most this time. Raises Broken."""
    with private_cluster(durable=False) as cluster, opened(cluster) as stage:
        until, todo = monotonic() + seconds, list(explorations(stage))
        reports = []
        for number, one in enumerate(todo):
            share = max(0.0, until - monotonic()) / (len(todo) - number)
            reports.append(one(bound=Bound(share, seed)))
            print(reports[-1], flush=True)
        complete = sum(report.left == 0 for report in reports)
        print(f"{sum(report.schedules for report in reports):,} schedules; {complete} of {len(todo)} complete")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.isolation.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=int(time()))
    given = parser.parse_args()
    try:
        run(60 * given.minutes, given.seed)
    except Broken as broken:
        print(broken)  # To standard output, because the shop's logs are on standard error.
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
