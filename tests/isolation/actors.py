"""The actors of the stage, the choices of a schedule, and what a schedule records."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from threading import Semaphore
from typing import Any

CANCEL, TIME_OUT = 100, 200
"""Added to the number of an actor that waits for a lock, they are the choices that end its wait: by
`pg_cancel_backend` (57014), or by `lock_timeout` (55P03)."""


class Broken(Exception):
    """An invariant was broken. The text says which one, and by which schedule."""


class State(Enum):
    """Where an actor is. Only a paused one can continue."""

    PAUSED = auto()
    RUNNING = auto()
    BLOCKED = auto()
    ENDED = auto()


@dataclass(frozen=True)
class Cut:
    """Cut the connection of `actor` at its step number `step`: before it, or (`after`) when its COMMIT has happened.

    With `lasting`, every later connection of this actor is cut as well, as if the database were away for it.
    """

    actor: int
    step: int
    after: bool = False
    lasting: bool = False


@dataclass
class Actor:
    """One thread. `result` is what its code returned, or the exception that it raised."""

    number: int
    call: Callable[[], Any]
    state: State = State.RUNNING
    pid: int = 0
    next_step: str = ""
    taken: int = 0
    result: Any = None
    go: Semaphore = field(default_factory=lambda: Semaphore(0))
    driver: Any = None
    lose_commit: bool = False
    commit_lost: bool = False
    """Whether its connection was cut, and neither a COMMIT nor a question to the bank followed: then it probes."""
    has_asked: bool = False
    wait_ends_by: int = 0
    """CANCEL or TIME_OUT from the choice to end its wait until it has stopped again."""


@dataclass(frozen=True)
class EndedWait:
    """A wait that the schedule ended: whose, at which statement, in a probe, and after a question to the bank?"""

    actor: int
    at: str
    in_probe: bool
    after_question: bool


@dataclass(frozen=True)
class Step:
    """One choice of the schedule: what could be chosen, what was, the actor of the choice before, and the step.

    A choice is an actor that continues, or, with CANCEL or TIME_OUT added, one whose wait ends.
    """

    runnable: tuple[int, ...]
    taken: int
    before: int | None
    what: str

    def preempts(self, actor: int) -> bool:
        """Return whether choosing this actor here interrupts one that could continue."""
        return actor < CANCEL and self.before in self.runnable and actor != self.before
