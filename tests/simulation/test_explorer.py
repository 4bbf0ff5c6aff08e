"""Every order of the steps of the short scenarios. `make soak` also explores the long ones."""

from unittest.mock import patch

import pytest

from lab.stage import states
from lab.stage.scenario import Scenario
from lab.stage.stage import Stage
from tests.simulation.explorer import BrokenSchedule, count_schedules, explore, replay
from tests.simulation.mutants import MUTANTS
from tests.simulation.scenarios import SCENARIOS, SHORT


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("scenario", SHORT, ids=lambda scenario: scenario.name)
def test_every_schedule_keeps_all_invariants(scenario: Scenario) -> None:
    report = explore(scenario)
    print(report)
    assert report.states > 10
    assert report.power_cuts > 1


def test_a_schedule_without_failures_ends_with_one_payment() -> None:
    """A scenario in which every request is refused at once would prove nothing."""
    with Stage(SCENARIOS["tabs, storage"]).open() as stage:
        stage.begin()
        while choices := stage.choices():
            stage.take(choices[0])
        told = {actor.name: actor.result for actor in stage.actors}
        assert told["A"].status == "succeeded"
        assert told["B"].receipt_id == told["A"].receipt_id
        assert list(stage.bank.taken().values()) == [1]


def test_a_schedule_with_the_providers_page_ends_with_one_payment() -> None:
    with Stage(SCENARIOS["page, return"]).open() as stage:
        stage.begin()
        while choices := stage.choices():
            stage.take(choices[0])
        assert [actor.error for actor in stage.actors] == [None] * 4
        assert stage.storage.rows("SELECT status FROM charge") == [("succeeded",)]
        assert stage.storage.rows("SELECT effect FROM webhook_event") == [("recorded",)]
        assert list(stage.bank.taken().values()) == [1]


def test_a_caught_schedule_can_be_replayed_by_its_numbers() -> None:
    mutant = next(mutant for mutant in MUTANTS if mutant.name == "no answer means declined")
    caught = mutant.caught()
    assert caught is not None
    assert "--replay" in str(caught)
    with mutant.applied(), pytest.raises(type(caught.why), match="declined"):
        replay(mutant.broken_scenario, caught.schedule)
    assert replay(SCENARIOS[caught.scenario], caught.schedule)[:4] == caught.steps[:4]


def test_a_state_that_lacks_something_is_detected() -> None:
    """The explorer plays a step once for all equal states. Without the actors' variables, unequal states look equal."""
    with patch.object(states, "_frames", lambda _frame: []), pytest.raises((AssertionError, BrokenSchedule)):
        explore(SCENARIOS["twins, storage"])


def test_schedules_are_counted_and_cycles_are_detected() -> None:
    assert count_schedules([[1, 2], [3], [3], []]) == 2
    assert count_schedules([[1], [0, 2], []]) is None
