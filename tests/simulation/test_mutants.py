"""Each defence is needed: every broken version of the program is caught."""

import pytest

from tests.simulation.lost_mutants import LOST_MUTANTS
from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.page_mutants import PAGE_MUTANTS
from tests.simulation.refund_mutants import REFUND_MUTANTS

ALL = (*MUTANTS, *PAGE_MUTANTS, *LOST_MUTANTS, *REFUND_MUTANTS)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "mutant", (*MUTANTS, *PAGE_MUTANTS, *LOST_MUTANTS, *REFUND_MUTANTS), ids=lambda mutant: mutant.name
)
def test_a_broken_program_is_caught(mutant: Mutant) -> None:
    caught = mutant.caught()
    assert caught is not None, f"{mutant.name} survived {mutant.scenario}"
    print(caught)


def test_there_are_at_least_twelve_mutants() -> None:
    assert len({mutant.name for mutant in MUTANTS}) >= 12
