"""Explore every schedule of a pair of actors, up to a number of preemptions.

A schedule is a list of actor numbers, one for each statement. A preemption takes the turn from an actor that could go
on. Nearly all mistakes of this kind show with two of them; three find the rest in bearable time (`make soak`).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf
from random import Random
from time import monotonic
from typing import Any

from app.charges import recovery
from app.charges.rows import ChargeSnapshot
from app.gateways.base import Gateways
from tests.isolation import invariants
from tests.isolation.actors import CANCEL, Broken, Cut, EndedWait, Step
from tests.isolation.bank import Bank
from tests.isolation.stage import Stage

SEEDED = "seeded"
"""The name under which the stage keeps the seeded products, with no order and no charge."""

PREEMPTIONS = 2
"""The bound in `make test`."""

REFUSALS = {"OrderedBefore", "NotRefundable", "True", "False"}
"""How actors may end that are no charges, if a scenario does not list its ends."""

WRITTEN_NOTHING, NOT_KNOWN = {"Busy", "RolledBack"}, {"ClaimUnknown", "Unreachable"}
"""What an actor says when its wait for a lock was ended: in its first run, and in a probe."""

NOTHING = "nothing"
"""Stands for the step at which a cut has no effect, because the actor holds no connection there."""


@dataclass(frozen=True)
class Act:
    """What one actor does. `receipt_id` is that of its Purchase if it presses Pay."""

    call: Callable[[Bank], Any]
    receipt_id: str | None = None


@dataclass
class Start:
    """How a schedule begins: the actors, and a fresh bank for each schedule."""

    acts: list[Act]
    bank: Callable[[], Bank] = Bank
    unfinished: bool = False
    """True if the actors leave charges to recovery."""


Prepare = Callable[[], Start]


@dataclass(frozen=True)
class Pair:
    """Two or more actors. `ends` are all the ways in which they may end; each must happen in some schedule.

    If `ends` is empty, any end but an unexpected error is accepted.
    """

    name: str
    prepare: Prepare
    ends: frozenset[tuple[str, ...]]


def pair_of(prepare: Prepare, *ends: str) -> Pair:
    """Return the pair that `prepare` prepares. Each end is a text such as "succeeded | declined"."""
    return Pair(prepare.__name__, prepare, frozenset(tuple(end.split(" | ")) for end in ends))


def either(one: str, other: str) -> tuple[str, str]:
    """Return both ends of a pair whose actors are alike."""
    return f"{one} | {other}", f"{other} | {one}"


@dataclass(frozen=True)
class Bound:
    """The time for an exploration that may be too large: take schedules in random order, and stop after `seconds`."""

    seconds: float
    seed: int


@dataclass
class Report:
    """The size of an exploration: schedules, statements and seconds, and how often each end was seen."""

    name: str
    preemptions: int
    bound: Bound = Bound(inf, 0)
    schedules: int = 0
    left: int = 0
    """Schedules that were known but not run when the time was over. Each could have led to more."""
    steps: int = 0
    cuts: int = 0
    waits: bool = False
    """Whether a schedule may end one wait for a lock."""
    ended_waits: int = 0
    in_probes: int = 0
    diverged: int = 0
    """Schedules that went another way, because PostgreSQL chose between two actors that were released at once."""
    seconds: float = 0.0
    ends: Counter[tuple[str, ...]] = field(default_factory=Counter)

    def count(self, steps: list[Step], end: tuple[str, ...], stage: Stage) -> None:
        """Count the schedule that the stage has just run."""
        self.schedules += 1
        self.steps += len(steps)
        self.cuts += stage.cut_at is not None
        self.ended_waits += stage.ended_wait is not None
        self.in_probes += stage.ended_wait is not None and stage.ended_wait.in_probe
        self.diverged += stage.diverged
        self.ends[end] += 1

    def __str__(self) -> str:
        cuts = f", {self.cuts} with a cut connection" if self.cuts else ""
        cuts += f", {self.ended_waits} with an ended wait ({self.in_probes} in a probe)" if self.waits else ""
        cuts += f", {self.diverged} diverged" if self.diverged else ""
        cuts += f" of at least {self.schedules + self.left}, at random, seed {self.bound.seed}" if self.left else ""
        ends = "; ".join(f"{times} × {' | '.join(end)}" for end, times in self.ends.most_common())
        return (
            f"{self.name}, {self.preemptions} preemptions: {self.schedules} schedules{cuts}, "
            f"{self.steps} steps, {self.seconds:.1f} s: {ends}"
        )


def explore(stage: Stage, pair: Pair, preemptions: int = PREEMPTIONS, bound: Bound | None = None) -> Report:
    """Run every schedule of the pair, or those within the bound. Raises Broken if one breaks a promise."""
    start, report = begin(stage, pair), Report(pair.name, preemptions, bound or Bound(inf, 0))
    began = monotonic()
    every_schedule(stage, pair, start, report, began, None)
    report.seconds = monotonic() - began
    return report


def explore_cuts(stage: Stage, pair: Pair, preemptions: int = 0, bound: Bound | None = None) -> Report:
    """Cut the connection of one actor at each of its steps, in every schedule; then run recovery to its end.

    A cut before a statement or COMMIT undoes the transaction. After COMMIT, only its answer is lost. Each is done once,
    and once so that the actor never gets a connection again.
    """
    start, report = begin(stage, pair), Report(pair.name, preemptions, bound or Bound(inf, 0))
    began = monotonic()
    for actor in range(len(start.acts)):
        step = 0
        while cut_at := every_schedule(stage, pair, start, report, began, Cut(actor, step)):
            every_schedule(stage, pair, start, report, began, Cut(actor, step, lasting=True))
            if "COMMIT" in cut_at:
                every_schedule(stage, pair, start, report, began, Cut(actor, step, after=True))
                every_schedule(stage, pair, start, report, began, Cut(actor, step, after=True, lasting=True))
            step += 1
    report.seconds = monotonic() - began
    return report


def begin(stage: Stage, pair: Pair) -> Start:
    stage.restore(SEEDED)
    with stage.app.app_context():
        start = pair.prepare()
    stage.save("start")
    return start


def every_schedule(stage: Stage, pair: Pair, start: Start, report: Report, began: float, cut: Cut | None) -> set[str]:
    """Run all schedules within the bound. Return the kinds of steps at which the connection was cut."""
    todo: list[list[int]] = [[]]
    cut_at: set[str] = set()
    random = Random(report.bound.seed) if report.bound.seconds < inf else None
    while todo:
        if monotonic() - began > report.bound.seconds:
            report.left += len(todo)
            break
        choices = todo.pop(random.randrange(len(todo)) if random else -1)
        steps = _run(stage, pair, start, choices, report, cut)
        todo += _branches(steps, len(choices), report.preemptions)
        cut_at |= {stage.cut_at} if stage.cut_at else {NOTHING} if _reached(steps, cut) else set()
    return cut_at


def _reached(steps: list[Step], cut: Cut | None) -> bool:
    """Return whether the actor came to the step at which to cut, even if it held no connection there."""
    return cut is not None and sum(step.taken == cut.actor for step in steps) > cut.step


def _branches(steps: list[Step], fixed: int, bound: int) -> list[list[int]]:
    """Return the schedules that leave this one at a later step. Each schedule is returned once in an exploration.

    At most one choice of a schedule ends a wait.
    """
    taken = [step.taken for step in steps]
    used = [0]
    for step in steps:
        used.append(used[-1] + step.preempts(step.taken))
    return [
        [*taken[:at], other]
        for at in range(fixed, len(steps))
        for other in steps[at].runnable
        if other != taken[at]
        and used[at] + steps[at].preempts(other) <= bound
        and (other < CANCEL or max(taken[:at], default=0) < CANCEL)
    ]


def play(
    stage: Stage, start: Start, choices: Sequence[int], cut: Cut | None = None, *, waits: bool = False
) -> tuple[Bank, list[Step]]:
    """Run one schedule. Return its bank and its steps."""
    stage.restore("start")
    bank = start.bank()
    bank.gate = stage.before_question
    return bank, stage.run([partial(act.call, bank) for act in start.acts], choices, cut, waits=waits)


def _run(stage: Stage, pair: Pair, start: Start, choices: list[int], report: Report, cut: Cut | None) -> list[Step]:
    """Run one schedule and check it."""
    bank, steps = play(stage, start, choices, cut, waits=report.waits)
    end = tuple(_end(result, act) for result, act in zip(stage.results, start.acts, strict=True))
    report.count(steps, end, stage)
    try:
        _check(stage, bank, start, after_cut=cut is not None or stage.ended_wait is not None)
        if stage.ended_wait and stage.cut_at != "ROLLBACK":  # That cut makes the refusal a lost connection.
            _check_ended_wait(stage.ended_wait, end[stage.ended_wait.actor])
        if stage.cut_at is stage.ended_wait is None:
            _check_end(pair, end)
        else:
            _check_errors(stage, pair)
    except Broken as broken:
        raise Broken(f"{report.name}: {broken}\n{_describe(stage, steps, cut)}") from broken
    return steps


def _check(stage: Stage, bank: Bank, start: Start, *, after_cut: bool) -> None:
    receipts, unfinished = [act.receipt_id for act in start.acts], after_cut or start.unfinished
    invariants.check(stage, bank, receipts, settled=not unfinished)
    if unfinished:
        _recover(stage, bank)
        invariants.check(stage, bank, receipts, settled=True)


def _check_end(pair: Pair, end: tuple[str, ...]) -> None:
    allowed = end in pair.ends if pair.ends else not {word for word in end if word[0].isupper()} - REFUSALS
    if not allowed:
        raise Broken(f"ended as it must not: {' | '.join(end)}")


def _check_errors(stage: Stage, pair: Pair) -> None:
    """After a cut or an ended wait, an actor may also say that nothing was written, or that this is not known."""
    expected = {word for end in pair.ends for word in end} | WRITTEN_NOTHING | NOT_KNOWN
    for result in stage.results:
        if isinstance(result, Exception) and type(result).__name__ not in expected:
            raise Broken(f"ended as it must not: {result!r}")


def _check_ended_wait(wait: EndedWait, end: str) -> None:
    """After a question to the bank, a request leads to its receipt instead. One that only counts an arrival goes on."""
    if end in (NOT_KNOWN if wait.in_probe else WRITTEN_NOTHING):
        return
    absorbed = wait.after_question and end in {"own processing", "own in_doubt", "False"}
    counted = wait.at == "UPDATE charge" and end.startswith("the other's")
    if not absorbed and not counted:
        raise Broken(f"ended as it must not: {end} after {wait}")


def _recover(stage: Stage, bank: Bank) -> None:
    """Let the time pass after which recovery takes over, and run it until nothing is due."""
    gateways = Gateways(bank, (bank,))
    for _ in range(3):
        stage.sql("UPDATE charge SET ask_at = now() - interval '1 s' WHERE ended_at IS NULL")
        stage.sql("UPDATE refund SET ask_at = now() - interval '1 s' WHERE ended_at IS NULL")
        with stage.app.app_context():
            if not recovery.run(gateways, 3.0, 600.0):
                return
    raise Broken("recovery does not finish")


def _end(result: object, act: Act) -> str:
    """Return in a few words how an actor ended."""
    if isinstance(result, ChargeSnapshot):
        whose = "" if act.receipt_id is None else "own " if result.receipt_id == act.receipt_id else "the other's "
        return f"{whose}{result.status}"
    return type(result).__name__ if isinstance(result, Exception) else str(result)


def _describe(stage: Stage, steps: list[Step], cut: Cut | None) -> str:
    lines = [f"  {step.taken}: {step.what}" for step in steps]
    return "\n".join(
        [f"schedule: {[step.taken for step in steps]}", *([str(cut)] if cut else []), *lines]
        + [f"actor {number} ended with {result!r}" for number, result in enumerate(stage.results)]
    )
