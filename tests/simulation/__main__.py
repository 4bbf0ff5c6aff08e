"""python -m tests.simulation: explore scenarios, break the program on purpose, repeat a schedule, or run at random.

Without arguments it explores the scenarios of `make test`.

    --list                       list the scenarios
    NAME ...                     explore only these
    --soak                       explore the scenarios of `make soak` too
    --mutants                    check that every broken version of the program is caught
    --replay NAME --schedule N,N play one schedule again
    --random SEED [--steps N]    play one random run again
"""

import argparse
import sys

from tests.simulation import random_runs
from tests.simulation.explorer import BrokenSchedule, explore, replay
from tests.simulation.lost_mutants import LOST_MUTANTS
from tests.simulation.mutants import MUTANTS
from tests.simulation.page_mutants import PAGE_MUTANTS
from tests.simulation.refund_mutants import REFUND_MUTANTS
from tests.simulation.scenarios import SCENARIOS, SHORT


def main() -> int:
    given = _arguments()
    if given.list:
        print("\n".join(f"{name:<36} {scenario.about}" for name, scenario in SCENARIOS.items()))
        return 0
    if given.replay:
        schedule = [int(number) for number in given.schedule.split(",") if number]
        print("\n".join(replay(SCENARIOS[given.replay], schedule)))
        return 0
    if given.random is not None:
        print(random_runs.run(given.random, given.steps))
        return 0
    return _mutants() if given.mutants else _explore(given.names, soak=given.soak)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--soak", action="store_true")
    parser.add_argument("--mutants", action="store_true")
    parser.add_argument("--replay", metavar="NAME", choices=SCENARIOS)
    parser.add_argument("--schedule", default="", metavar="N,N")
    parser.add_argument("--random", type=int, metavar="SEED")
    parser.add_argument("--steps", type=int, default=1000)
    return parser.parse_args()


def _explore(names: list[str], *, soak: bool) -> int:
    scenarios = [SCENARIOS[name] for name in names] or (list(SCENARIOS.values()) if soak else SHORT)
    try:
        for scenario in scenarios:
            print(explore(scenario), flush=True)
    except BrokenSchedule as caught:
        print(caught)
        return 1
    return 0


def _mutants() -> int:
    survivors = 0
    mutants = (*MUTANTS, *PAGE_MUTANTS, *LOST_MUTANTS, *REFUND_MUTANTS)
    for mutant in mutants:
        how = mutant.caught()
        survivors += how is None
        steps = f"caught after {len(how.schedule)} steps" if how else "SURVIVED"
        print(f"{steps:<24} {mutant.name}: {str(how.why)[:100] if how else mutant.scenario}", flush=True)
    print(f"{len(mutants) - survivors} of {len(mutants)} caught")
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main())
