"""Every schedule of statements with at most two preemptions, on PostgreSQL. `make soak` goes further."""

import pytest

from tests.isolation.pairs import PAIRS
from tests.isolation.schedules import Pair, explore
from tests.isolation.stage import Stage

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.xdist_group("isolation")]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_every_schedule_keeps_every_promise(stage: Stage, pair: Pair) -> None:
    report = explore(stage, pair)
    print(report)
    assert set(report.ends) == pair.ends
    assert report.diverged == 0
