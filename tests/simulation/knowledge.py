"""The knowledge about a scenario so far: the states that it can reach, and the effect of each step.

A state consists of the stored rows (with the bank's records), the position of each actor, and how many more failures
are allowed. The effect of a step depends only on the stored rows and on the position of its actor. So each such pair is
played once, however many states share it. To play it, the storage is restored, and the actor takes its own earlier
steps again, each with the rows that were stored at that time. If the actor does not reach the expected position, the
state lacks something. Then AssertionError is raised.
"""

from itertools import permutations
from typing import NamedTuple

from lab.stage.stage import Saved, Stage
from lab.stage.states import position as position_of
from lab.stage.states import stored as stored_in
from lab.stage.steps import Actor, Choice, NextStep
from tests.simulation.invariants import Records, Situation, read_records


class State(NamedTuple):
    """A state, as numbers that Knowledge gives. `positions` has the order of the scenario's actors."""

    stored: int
    positions: tuple[int, ...]
    bank_faults: float
    storage_faults: float


class Path(NamedTuple):
    """The steps that lead an actor to its position: the number of the rows stored before each, and its fate."""

    actor: str
    steps: tuple[tuple[int, str], ...]


class Knowledge:
    """Gives each text (stored rows, or an actor's position) a number, and keeps what is known about it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.names = list(stage.scenario.scripts(stage))
        self.texts: list[str] = []
        self.records: dict[int, Records] = {}
        self.situations: dict[int, Situation] = {}
        self.effects: dict[tuple[int, int, str], tuple[int, int]] = {}
        """By cause of a step: the numbers of the rows stored after it, and of its actor's position."""
        self.saved: dict[int, Saved] = {}
        """By number: the saved storage, to continue from."""
        self.paths: dict[int, Path] = {}
        """By number: the steps that lead an actor there."""
        self._ready: dict[tuple[int, int], bool] = {}
        self._numbers: dict[str, int] = {}
        self._renamed: dict[tuple[int, tuple[str, ...]], int] = {}
        self._orders = list(permutations(stage.scenario.symmetric))

    def here(self) -> State:
        """Return the state of the stage, with all actors."""
        positions = tuple(map(self.position, self.stage.actors))
        return State(self.stored(), positions, self.stage.bank_faults, self.stage.storage_faults)

    def stored(self) -> int:
        """Return the number of the rows that are stored now."""
        number = self._number(stored_in(self.stage))
        if number not in self.records:
            self.records[number] = read_records(self.stage)
            self.saved[number] = self.stage.save()
        return number

    def position(self, actor: Actor) -> int:
        """Return the number of this actor's position."""
        number = self._number(repr(position_of(actor)))
        if number not in self.situations:
            self.situations[number] = Situation.of(actor)
            self.paths.setdefault(number, Path(actor.name, ()))
        return number

    def bring_actor(self, stored: int, position: int) -> Actor:
        """Bring one actor, alone on the stage, to this position, with these stored rows."""
        stage, path = self.stage, self.paths[position]
        actor = stage.begin_alone(path.actor)
        for before, fate in path.steps:
            stage.restore(self.saved[before])
            actor.resume(fate)
        stage.restore(self.saved[stored])
        if self.position(actor) != position:
            raise AssertionError(f"{path} does not lead to {self.texts[position]}")
        return actor

    def _number(self, text: str) -> int:
        if text not in self._numbers:
            self._numbers[text] = len(self.texts)
            self.texts.append(text)
        return self._numbers[text]

    def choices(self, state: State) -> list[Choice]:
        """Return every step that can be next."""
        waiting = [(name, n) for name, n in zip(self.names, state.positions, strict=True) if self.situations[n].at]
        inner = [each for each in waiting if self._at(each[1]).immediate][:1]
        found = []
        for name, number in inner or waiting:
            at, ready = self._at(number), self._is_ready(state.stored, number)
            budget = state.bank_faults > 0, state.storage_faults > 0
            fates = self.stage.scenario.fates(at, self.situations[number].asked, ready, *budget)
            found += [Choice(name, fate) for fate in fates]
        if inner:
            return found
        return found + [Choice("network", str(number)) for number in range(self.records[state.stored].held)]

    def _is_ready(self, stored: int, number: int) -> bool:
        """Return whether an actor that waits there for something to happen can continue."""
        ready = self._at(number).ready
        if ready and (stored, number) not in self._ready:
            self.stage.restore(self.saved[stored])
            self._ready[stored, number] = ready()
        return bool(ready and self._ready[stored, number])

    def _at(self, number: int) -> NextStep:
        at = self.situations[number].at
        assert at is not None
        return at

    def after(self, state: State, choice: Choice) -> State | None:
        """Return the state that this step leads to, or None if the step has not been played yet."""
        effect = self.effects.get(self._cause(state, choice))
        if effect is None:
            return None
        positions = list(state.positions)
        bank, storage = state.bank_faults, state.storage_faults
        if choice.actor != "network":
            index = self.names.index(choice.actor)
            at = self._at(positions[index])
            bank, storage = bank - at.uses_bank_fault(choice.fate), storage - at.uses_storage_fault(choice.fate)
            positions[index] = effect[1]
        return State(effect[0], tuple(positions), bank, storage)

    def play(self, state: State, choice: Choice) -> None:
        """Play a new step and record its effect."""
        cause = self._cause(state, choice)
        stored, position, fate = cause
        if choice.actor == "network":
            self.stage.clear()
            self.stage.restore(self.saved[stored])
            self.stage.take(choice)
            self.effects[cause] = self.stored(), -1
            return
        actor = self.bring_actor(stored, position)
        actor.resume(fate)
        path = self.paths[position]
        after = self._number(repr(position_of(actor)))
        self.paths.setdefault(after, Path(path.actor, (*path.steps, (stored, fate))))
        self.effects[cause] = self.stored(), self.position(actor)

    def _cause(self, state: State, choice: Choice) -> tuple[int, int, str]:
        position = state.positions[self.names.index(choice.actor)] if choice.actor != "network" else -1
        return state.stored, position, choice.fate

    def difference(self, one: State, other: State) -> list[tuple[str, str]]:
        """Return what differs between two states, as texts."""
        pairs = zip((one.stored, *one.positions), (other.stored, *other.positions), strict=True)
        return [(self.texts[was], self.texts[is_]) for was, is_ in pairs if was != is_]

    def same_stored(self, stored: int) -> int:
        """Return the same number for everything that differs only in the names of symmetric actors."""
        return min(self._rename(stored, order) for order in self._orders)

    def canonical(self, state: State) -> tuple[object, ...]:
        """Return the same value for states that differ only in the names of symmetric actors."""
        same = self.stage.scenario.symmetric
        if not same:
            return state
        found = []
        for order in self._orders:
            roles = dict(zip(same, order, strict=True))
            seats = [self.names.index(roles.get(name, name)) for name in self.names]
            whole = (self._rename(state.stored, order), *(self._rename(state.positions[seat], order) for seat in seats))
            found.append((whole, state.bank_faults, state.storage_faults))
        return min(found)

    def _rename(self, number: int, order: tuple[str, ...]) -> int:
        """Return the text with each actor's own names replaced by those of its role."""
        if (number, order) not in self._renamed:
            text = self.texts[number]
            for role, name in enumerate(order):
                for which, mark in enumerate(self.stage.spellings[name]):
                    text = text.replace(mark, f"<{role}.{which}>")
            self._renamed[number, order] = self._number("renamed " + text)
        return self._renamed[number, order]
