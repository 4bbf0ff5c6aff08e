"""The long exploration for `make soak`: three preemptions, three actors, and cuts with a preemption."""

import sys

from tests.isolation.database import opened
from tests.isolation.pairs import BY_NAME, PAIRS, WITH_CUTS
from tests.isolation.schedules import explore, explore_cuts
from tests.isolation.stage import Broken
from tests.isolation.triples import TRIPLES
from tests.postgres import private_cluster


def run() -> None:
    """Explore on a PostgreSQL of its own. Raises Broken."""
    with private_cluster(durable=False) as cluster, opened(cluster) as stage:
        for pair in PAIRS:
            print(explore(stage, pair, preemptions=3), flush=True)
        for triple in TRIPLES:
            print(explore(stage, triple), flush=True)
        for prepare in WITH_CUTS:
            print(explore_cuts(stage, BY_NAME[prepare.__name__], preemptions=1), flush=True)


if __name__ == "__main__":
    try:
        run()
    except Broken as broken:
        print(broken)  # To standard output, because the shop's logs are on standard error.
        sys.exit(1)
