"""Steps and actors. An actor is a greenlet that pauses at every transaction and every question to the bank."""

from collections.abc import Callable
from types import FrameType
from typing import NamedTuple

from greenlet import GreenletExit, greenlet

PROGRAM = ["app.charges", "app.gateways", "app.orders", "app.webhooks", "lab.stage.actors"]
"""Modules whose functions can take a step. A module with actors of its own appends its name."""

BANK = ("lost", "late", "before", "refused")
UNSURE = ("lost", "late")
"""Fates of a question after which money may have been taken, or may still be."""


class Broken(Exception):
    """An invariant was broken."""


class Stop(NamedTuple):
    """Where an actor pauses. `kind` is tx, read, bank, look, pause or when; `label` is the function or the question."""

    kind: str
    label: str
    ready: Callable[[], bool] | None = None

    @property
    def at_once(self) -> bool:
        """Return whether this step commutes with every other, so that it can be taken at once.

        Whether there is time for another question concerns no other actor, and nothing depends on counted arrivals.
        """
        return self.kind == "pause" or self.label == "count"

    @property
    def leases(self) -> str | None:
        """Return the table whose next row recovery is about to lease, or None."""
        return {"_recover_charge": "charge", "_recover_refund": "refund"}.get(self.label) if self.kind == "tx" else None

    def costs_bank(self, fate: str) -> int:
        """Return 1 if this fate is a failure of the bank's connection."""
        return int(self.kind in {"bank", "look"} and fate != "ok")

    def costs_storage(self, fate: str) -> int:
        """Return 1 if this fate is a failure of the storage."""
        return int(self.kind in {"tx", "read"} and fate != "ok")


class Choice(NamedTuple):
    """One step of a schedule: the actor and the fate. "network" delivers a question that was held back, by number."""

    actor: str
    fate: str


class Actor(greenlet):
    """Runs the program's code from step to step."""

    def __init__(self, name: str, story: Callable[[], object]) -> None:
        super().__init__()
        self.name, self.story = name, story
        self.at = Stop("new", "")
        self.fate = self.asked = "ok"
        """The fate of its last step, and of its last question to the bank."""
        self.result: object = None
        self.error: Exception | None = None
        self.position: object = None
        """Where it is and what it knows, as `states` saw it. None until something asks for it."""

    def run(self) -> None:
        try:
            self.result = self.story()
        except Exception as error:
            self.error = error

    def stand(self, stop: Stop) -> str:
        """Wait for the next turn and return the step's fate. The actor calls this."""
        self.at = stop
        self.parent.switch()
        return self.fate

    def move(self, fate: str) -> None:
        """Continue to the next step. The scheduler calls this."""
        if self.at.kind == "bank":
            self.asked = fate
        self.fate, self.position = fate, None
        self.switch()

    def kill(self) -> None:
        """End the actor. It is outside of any transaction, so nothing changes."""
        if not self.dead:
            self.throw(GreenletExit)


def step_name(frame: FrameType | None) -> str:
    """Return the name of the program's function that takes this step."""
    while frame:
        if frame.f_globals["__name__"].startswith(tuple(PROGRAM)):
            return frame.f_code.co_name
        frame = frame.f_back
    return "?"
