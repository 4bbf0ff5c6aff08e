"""python -m tests.soak: run the long tests one after the other, or only those that are named.

It stops at the first failure.

simulation   every order of the simulated steps, also of the scenarios that are too long for `make test`
random       random runs for --minutes, starting with --seed
faults       real faults on real processes, ten times as many as in `make test`
failover     a hundred failovers of PostgreSQL under Patroni: killed, frozen and cut off leaders, and switch-overs
downtime     twenty reloads, upgrades, rolling restarts and kills of two hosts behind nginx and HAProxy, under load
isolation    orders of statements on PostgreSQL, with more preemptions and three actors, for at most 60 minutes
audit        the duration of the audit of a million payments on PostgreSQL
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
    """Explore every scenario. Raises BrokenSchedule."""
    for scenario in SCENARIOS.values():
        print(explore(scenario), flush=True)


def random(given: argparse.Namespace) -> None:
    """Run random runs. Raises BrokenRun."""
    tallies = random_runs.run_for(60 * given.minutes, steps=3000, seed=given.seed, report=print)
    print(f"{len(tallies)} random runs, {sum(tally.steps for tally in tallies):,} steps, nothing broken")


def faults(given: argparse.Namespace) -> None:
    """Run the tests with real faults. Raises CalledProcessError.

    The figures go to standard output. The logs of the shops, on standard error, are dropped.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-s", "--tb=short", "tests/faults"]
    subprocess.run(command, env=os.environ | {"FAULTS_TIMES": "10"}, stderr=subprocess.DEVNULL, check=True)


FAILOVER_TESTS = ["tests/failover", "tests/failover/asynchronous.py"]


def failover(given: argparse.Namespace) -> None:
    """Run the failovers under load. Raises CalledProcessError. The logs of the shops are dropped."""
    command = [sys.executable, "-m", "pytest", "-q", "-s", "--tb=short", *FAILOVER_TESTS]
    subprocess.run(command, env=os.environ | {"FAILOVERS": "100"}, stderr=subprocess.DEVNULL, check=True)


def downtime(given: argparse.Namespace) -> None:
    """Reload, upgrade, restart and kill hosts under load. Raises CalledProcessError. Logs are dropped."""
    command = [sys.executable, "-m", "pytest", "-q", "-s", "--tb=short", "tests/deployment/test_zero_downtime.py"]
    subprocess.run(command, env=os.environ | {"DOWNTIME_ROUNDS": "20"}, stderr=subprocess.DEVNULL, check=True)


def isolation(given: argparse.Namespace) -> None:
    """Run the long isolation tests. Raises CalledProcessError. The logs of the shop, on standard error, are dropped."""
    command = [sys.executable, "-m", "tests.isolation.soak", f"--seed={given.seed}"]
    subprocess.run(command, stderr=subprocess.DEVNULL, check=True)


def audit(given: argparse.Namespace) -> None:
    """Audit a million payments. Raises CalledProcessError."""
    subprocess.run([sys.executable, "-m", "tests.faults.million"], check=True)


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "simulation": simulation, "random": random, "faults": faults, "failover": failover, "downtime": downtime,
    "isolation": isolation, "audit": audit,
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
