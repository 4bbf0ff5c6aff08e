"""A connection that breaks before any statement, before COMMIT, or after COMMIT; recovery then finishes the work."""

import pytest

from tests.isolation.pairs import BY_NAME
from tests.isolation.schedules import explore_cuts
from tests.isolation.stage import Stage

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.xdist_group("isolation")]

SHORT = (
    "same_form", "two_tabs", "two_tabs_declined", "claim_and_put", "claim_and_decline", "ask_and_recovery",
    "two_refunds", "refund_and_recovery", "event_and_success",
)  # fmt: skip


@pytest.mark.parametrize("name", SHORT)
def test_recovery_finishes_what_a_cut_left(stage: Stage, name: str) -> None:
    report = explore_cuts(stage, BY_NAME[name])
    print(report)
    assert report.cuts > 10
