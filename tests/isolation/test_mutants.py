"""The exploration finds each defence that is removed: at least one schedule then breaks an invariant."""

import pytest

from tests.isolation.mutants import MUTANTS, Mutant
from tests.isolation.stage import Stage

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.xdist_group("isolation")]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_mutant_is_caught(stage: Stage, mutant: Mutant) -> None:
    caught = mutant.caught(stage)
    print(caught)
    assert mutant.says in caught.splitlines()[0] if caught else False, caught or "it survived"
