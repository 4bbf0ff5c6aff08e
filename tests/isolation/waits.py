"""Explore what happens if a wait for a lock times out (55P03) or is cancelled (57014), in a first run and in a probe.

After each such schedule recovery runs to its end and every promise holds, as after a cut connection.
"""

from collections.abc import Iterable, Iterator
from math import inf
from time import monotonic

from tests.isolation.actors import Cut
from tests.isolation.schedules import Bound, Pair, Report, Start, begin, every_schedule, play
from tests.isolation.stage import Stage


def explore_waits(stage: Stage, pair: Pair, preemptions: int = 1, bound: Bound | None = None) -> Report:
    """End each wait of each schedule in both ways. Raises Broken if one breaks a promise."""
    return _explore(stage, pair, begin(stage, pair), preemptions, bound, [None])


def explore_probes(stage: Stage, pair: Pair, preemptions: int = 1, bound: Bound | None = None) -> Report:
    """Do the same after the first COMMIT of an actor was lost, before or after it happened. Then its claim probes."""
    start = begin(stage, pair)
    return _explore(stage, pair, start, preemptions, bound, _lost_commits(stage, start))


def _explore(
    stage: Stage, pair: Pair, start: Start, preemptions: int, bound: Bound | None, cuts: Iterable[Cut | None]
) -> Report:
    report = Report(pair.name, preemptions, bound or Bound(inf, 0), waits=True)
    began = monotonic()
    for cut in cuts:
        every_schedule(stage, pair, start, report, began, cut)
    report.seconds = monotonic() - began
    return report


def _lost_commits(stage: Stage, start: Start) -> Iterator[Cut]:
    _, steps = play(stage, start, [])
    for actor in range(len(start.acts)):
        own = [step.what for step in steps if step.taken == actor]
        if "COMMIT" in own:
            yield from (Cut(actor, own.index("COMMIT"), after) for after in (False, True))
