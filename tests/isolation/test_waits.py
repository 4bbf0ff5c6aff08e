"""A wait for a lock that times out or is cancelled, also while a lost COMMIT is being probed."""

import pytest

from tests.isolation.pairs import BY_NAME, CLAIMING, PROBING
from tests.isolation.stage import Stage
from tests.isolation.waits import explore_probes, explore_waits

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.xdist_group("isolation")]


@pytest.mark.parametrize("name", [prepare.__name__ for prepare in CLAIMING])
def test_a_wait_that_ends_without_its_lock_has_written_nothing(stage: Stage, name: str) -> None:
    report = explore_waits(stage, BY_NAME[name])
    print(report)
    assert report.ended_waits > 5


@pytest.mark.parametrize("name", [prepare.__name__ for prepare in PROBING])
def test_a_probe_whose_wait_ends_does_not_know_what_was_written(stage: Stage, name: str) -> None:
    report = explore_probes(stage, BY_NAME[name])
    print(report)
    assert report.in_probes > 5
