"""python -m tests.soak: the long runs, one after the other, or only those named. What fails is told at once.

simulation   every interleaving, also of the scenarios that `make test` has no time for
random       random runs for so many minutes (--minutes), from a seed (--seed) on
faults       real faults on real processes, ten times as often as in `make test`
isolation    every interleaving of statements on PostgreSQL, with more preemptions and three actors
audit        how long the audit takes for a million payments on PostgreSQL
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from time import time

from tests.simulation import random_runs
from tests.simulation.explorer import explore
from tests.simulation.scenarios import SCENARIOS


def simulation(given: argparse.Namespace) -> None:
    """Raises Caught."""
    for scenario in SCENARIOS.values():
        print(explore(scenario), flush=True)


def random(given: argparse.Namespace) -> None:
    """Raises Lost."""
    tallies = random_runs.run_for(60 * given.minutes, steps=3000, seed=given.seed, say=print)
    print(f"{len(tallies)} random runs, {sum(tally.steps for tally in tallies):,} steps, nothing broken")


def faults(given: argparse.Namespace) -> None:
    """Raises CalledProcessError. The figures go to standard output; the shops' own logs nowhere."""
    command = [sys.executable, "-m", "pytest", "-q", "-s", "--tb=short", "tests/faults"]
    subprocess.run(command, env=os.environ | {"FAULTS_TIMES": "10"}, stderr=subprocess.DEVNULL, check=True)


def isolation(given: argparse.Namespace) -> None:
    """Raises CalledProcessError. The shop's logs go nowhere."""
    subprocess.run([sys.executable, "-m", "tests.isolation.soak"], stderr=subprocess.DEVNULL, check=True)


def audit(given: argparse.Namespace) -> None:
    """Raises CalledProcessError."""
    subprocess.run([sys.executable, "-m", "tests.faults.million"], check=True)


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "simulation": simulation, "random": random, "faults": faults, "isolation": isolation, "audit": audit,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=int(time()))
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    for name in given.parts or PARTS:
        print(f"--- {name}", flush=True)
        PARTS[name](given)


if __name__ == "__main__":
    sys.exit(main())
