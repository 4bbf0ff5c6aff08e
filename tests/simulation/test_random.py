"""Short random runs. `make soak` runs longer ones."""

import pytest

from tests.simulation.random_runs import run


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(8))
def test_a_random_run_keeps_all_invariants(seed: int) -> None:
    tally = run(seed, steps=1000)
    print(tally)
    assert tally.charges["succeeded"] > 5
    assert tally.crashes and tally.faults


def test_the_same_seed_gives_the_same_run() -> None:
    one, other = run(99, steps=200), run(99, steps=200)
    assert (one.arrived, one.charges, one.faults) == (other.arrived, other.charges, other.faults)
