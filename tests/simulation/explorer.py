"""Explore every schedule of a scenario, shortest first, each state once.

Any actor can be killed before any step. So `invariants.check_after_recovery` runs for everything that was ever stored
or known at the bank. An actor that never continues is the same as a killed one, so this covers crashes at any steps, in
any number.

The program's own protocol, recovery, refunds, webhooks, audit of the bank's statement, and SQL statements run. The
clock, generated ids, logging and the bank (or the provider behind its real library) are replaced, and each transaction
is one atomic step on SQLite in memory. `lab.stage.stage` lists this in full.

"Every schedule" means every order of these steps, with the actors and up to the number of failures that a scenario
names. It is no proof for more actors, for single statements and locks that interleave on PostgreSQL, or for a database
that does not answer. It also relies on `lab.stage.states`: equal states are explored once. To check that nothing is
missing from a state, one in REPLAY_ONE_IN is also reached by its whole schedule.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from lab.stage.scenario import Scenario
from lab.stage.stage import Stage
from lab.stage.steps import Choice
from tests.simulation import invariants
from tests.simulation.knowledge import Knowledge, State

REPLAY_ONE_IN = 20
"""One of this many states is also reached by playing its whole schedule from the beginning."""

Schedule = list[int]


class BrokenSchedule(Exception):
    """A schedule that breaks the program. Its numbers repeat it."""

    def __init__(self, scenario: str, schedule: Schedule, steps: list[str], why: Exception) -> None:
        self.scenario, self.schedule, self.steps, self.why = scenario, schedule, steps, why
        numbers = ",".join(map(str, schedule))
        again = f'python -m tests.simulation --replay "{scenario}" --schedule {numbers}'
        super().__init__("\n".join([f"{type(why).__name__}: {why}", *(f"  {step}" for step in steps), again]))


@dataclass
class Exploration:
    """How much was explored.

    `states` counts different states, `steps` the steps between them. Equal steps are `played` once. `power_cuts` counts
    the different contents of storage and bank; in each of them, every actor was killed. `schedules` counts those that
    were played as a whole. `possible` is the number of all complete schedules, or None if they can go on without end.
    """

    scenario: str
    states: int = 0
    steps: int = 0
    played: int = 0
    schedules: int = 0
    power_cuts: int = 0
    seconds: float = 0.0
    possible: int | None = None

    def __str__(self) -> str:
        possible = f"{self.possible:.1e}" if self.possible is not None else "unlimited"
        per_minute = 60 * self.states / max(self.seconds, 0.001)
        return (
            f"{self.scenario:<36} {self.states:>8,} states {self.steps:>9,} steps ({self.played:,} played) "
            f"{self.power_cuts:>6,} power cuts {self.schedules:>6,} of {possible} schedules played as a whole "
            f"{self.seconds:>7.1f} s, {per_minute:,.0f} states per minute"
        )


class Explorer:
    """Explores one scenario on one stage."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.known = stage, Knowledge(stage)
        self.report = Exploration(stage.scenario.name)
        self.reached_from: dict[State, tuple[State, int] | None] = {}
        """How each state was first reached: from which state, by which of its choices."""
        self.seen: dict[Any, int] = {}
        self.graph: list[list[int]] = []
        self.checked: set[tuple[int, int]] = set()
        self.checked_after_recovery: set[int] = set()

    def run(self) -> Exploration:
        """Explore everything. Raises BrokenSchedule at the first schedule that breaks an invariant."""
        began = perf_counter()
        self.stage.begin()
        first = self.known.here()
        self._new(first, None)
        waiting = deque([first])
        while waiting:
            waiting.extend(self._expand(waiting.popleft()))
        report = self.report
        report.states, report.power_cuts = len(self.graph), len(self.checked_after_recovery)
        report.steps = sum(map(len, self.graph))
        report.possible = count_schedules(self.graph)
        report.seconds = perf_counter() - began
        return report

    def _expand(self, state: State) -> Iterator[State]:
        """Yield the next states that are new."""
        self._check(state)
        number = self.seen[self.known.canonical(state)]
        if number % REPLAY_ONE_IN == 0:
            self._play_all(state)
        for which, choice in enumerate(self.known.choices(state)):
            after = self.known.after(state, choice) or self._play(state, which, choice)
            name = self.known.canonical(after)
            if name not in self.seen:
                self._new(after, (state, which))
                yield after
            self.graph[number].append(self.seen[name])

    def _new(self, state: State, origin: tuple[State, int] | None) -> None:
        self.reached_from[state] = origin
        self.seen[self.known.canonical(state)] = len(self.graph)
        self.graph.append([])

    def _play(self, state: State, which: int, choice: Choice) -> State:
        """Play a new step and check it."""
        self.report.played += 1
        schedule = [*self._schedule(state), which]
        with self._catching(schedule):
            self.known.play(state, choice)
            after = self.known.after(state, choice)
            assert after is not None
            invariants.check_step(
                self.stage.scenario, self.known.records[state.stored], self.known.records[after.stored]
            )
            if (name := self.known.same_stored(after.stored)) not in self.checked_after_recovery:
                self.checked_after_recovery.add(name)
                invariants.check_after_recovery(self.stage)
        return after

    def _check(self, state: State) -> None:
        """Check that everything that an actor was told is true now. It is checked again in every later state."""
        with self._catching(self._schedule(state)):
            invariants.check_lookups(self.stage.scenario, [self.known.situations[number] for number in state.positions])
        for number in state.positions:
            situation = self.known.situations[number]
            if situation.at is None and (state.stored, number) not in self.checked:
                self.checked.add((state.stored, number))
                with self._catching(self._schedule(state)):
                    invariants.check_told(self.stage.scenario, situation, self.known.records[state.stored])
                    invariants.check_own_receipt(situation, self.known.records[state.stored])

    def _play_all(self, state: State) -> None:
        """Play a whole schedule with all actors together, and check that it leads to the same state as its steps."""
        self.stage.begin()
        for which in self._schedule(state):
            self.stage.take(self.stage.choices()[which])
        self.report.schedules += 1
        if self.known.here() != state:
            differs = self.known.difference(state, self.known.here())
            raise AssertionError(f"{self._schedule(state)} does not lead to the expected state: {differs}")

    def _schedule(self, state: State) -> Schedule:
        found: Schedule = []
        origin = self.reached_from[state]
        while origin:
            found.append(origin[1])
            origin = self.reached_from[origin[0]]
        return found[::-1]

    @contextmanager
    def _catching(self, schedule: Schedule) -> Iterator[None]:
        try:
            yield
        except Exception as why:
            raise BrokenSchedule(self.stage.scenario.name, schedule, in_words(self.stage, schedule), why) from why


def count_schedules(graph: list[list[int]]) -> int | None:
    """Return the number of paths from the first state to an end, or None if the graph has a cycle."""
    counts: list[int | None] = [None] * len(graph)
    entered, path = [False] * len(graph), [0]
    while path:
        state = path[-1]
        entered[state] = True
        unknown = next((after for after in graph[state] if counts[after] is None), None)
        if unknown is None:
            counts[state] = sum(counts[after] or 0 for after in graph[state]) or 1
            path.pop()
        elif entered[unknown]:
            return None
        else:
            path.append(unknown)
    return counts[0]


def in_words(stage: Stage, schedule: Schedule) -> list[str]:
    """Return the steps of a schedule in words."""
    stage.begin()
    found = []
    for which in schedule:
        choice = stage.choices()[which]
        found.append(stage.describe(choice))
        try:
            stage.take(choice)
        except Exception as error:
            found.append(repr(error))
    return found


def explore(scenario: Scenario, change_schema: Callable[[str], str] = lambda sql: sql) -> Exploration:
    """Explore every schedule. Raises BrokenSchedule."""
    with Stage(scenario, change_schema).open() as stage:
        return Explorer(stage).run()


def replay(scenario: Scenario, schedule: Schedule) -> list[str]:
    """Play one schedule again, check everything at its end, and return its steps in words. Raises Broken."""
    with Stage(scenario).open() as stage:
        found = in_words(stage, schedule)
        invariants.check_now(stage)
        invariants.check_after_recovery(stage)
        return found
