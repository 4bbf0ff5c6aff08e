"""Leases: how one of several workers gets a row to itself, and how long it waits before it tries again."""

from random import uniform
from time import monotonic, time
from typing import Any

from sqlalchemy import Column, ColumnElement, ScalarSelect, select

from app.database import from_now


def longest_due(identity: Column[Any], due: Column[Any], *still: ColumnElement[bool]) -> ScalarSelect[Any]:
    """Return a subquery for the row that has been due the longest and that no other worker is taking at the moment.

    The clock is a subquery, because PostgreSQL would compare it with every row if it were read once per row.
    """
    return (
        select(identity)
        .where(*still, due <= select(from_now(0)).scalar_subquery())
        .order_by(due)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )


LONGEST = 300.0
"""Seconds between two questions at most."""


RARELY = 3600.0
"""Seconds between two questions if only a person can end the matter."""


def back_off(times: int, longest: float = LONGEST) -> float:
    """Return the seconds until the next try: doubling from one second to `longest`, with jitter."""
    return min(longest, 2.0 ** min(times, 20)) * uniform(0.5, 1.0)  # noqa: S311 - jitter is no secret.


class Stopwatch:
    """Measures seconds of this host on two clocks, because one of them stands still while a machine is suspended."""

    def __init__(self) -> None:
        self._started = monotonic(), time()

    def __repr__(self) -> str:
        return "Stopwatch()"

    def seconds(self) -> float:
        """Return the seconds since it was made: those of the clock on which more have passed."""
        started, wall = self._started
        return max(monotonic() - started, time() - wall)
