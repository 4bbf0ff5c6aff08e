"""A connection that breaks before any statement, before COMMIT, or after COMMIT; recovery then finishes the work."""

import pytest

from tests.isolation.pairs import BY_NAME, WITH_CUTS
from tests.isolation.schedules import explore_cuts
from tests.isolation.stage import Stage

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.xdist_group("isolation")]


@pytest.mark.parametrize("name", [prepare.__name__ for prepare in WITH_CUTS])
def test_recovery_finishes_what_a_cut_left(stage: Stage, name: str) -> None:
    report = explore_cuts(stage, BY_NAME[name])
    print(report)
    assert report.cuts > 10
