"""Steps, and those who take them: greenlets that stand still at every transaction and every question to the bank."""

from collections.abc import Callable
from types import FrameType
from typing import NamedTuple

from greenlet import GreenletExit, greenlet

PROGRAM = ["app.charges", "app.gateways", "app.orders", "app.webhooks", "lab.stage.actors"]
"""Modules whose functions can take a step; a module with actors of its own appends its name."""

BANK = ("lost", "late", "before", "refused")
UNSURE = ("lost", "late")
"""Fates of a question after which money may have been taken, or may yet be."""


class Broken(Exception):
    """What must never be so, was."""


class Stop(NamedTuple):
    """Where an actor stands: `kind` is tx, read, bank, look, pause or when; `label` the function or the question."""

    kind: str
    label: str
    ready: Callable[[], bool] | None = None

    @property
    def at_once(self) -> bool:
        """It commutes with every other step, so its turn may as well be now: whether there is time for another
        question concerns nobody else, and nothing is decided by how many arrivals were counted."""
        return self.kind == "pause" or self.label == "count"

    @property
    def leases(self) -> str | None:
        """The table of which recovery is about to take the next row."""
        return {"_recover_charge": "charge", "_recover_refund": "refund"}.get(self.label) if self.kind == "tx" else None

    def costs_bank(self, fate: str) -> int:
        """Whether this is one of the times that the bank's line may fail."""
        return int(self.kind in {"bank", "look"} and fate != "ok")

    def costs_storage(self, fate: str) -> int:
        """Whether this is one of the times that the storage may fail."""
        return int(self.kind in {"tx", "read"} and fate != "ok")


class Choice(NamedTuple):
    """One step of a schedule: who moves, and its fate. "network" delivers what was held back, by number."""

    actor: str
    fate: str


class Actor(greenlet):
    """Somebody who runs the program's code, from step to step."""

    def __init__(self, name: str, story: Callable[[], object]) -> None:
        super().__init__()
        self.name, self.story = name, story
        self.at = Stop("new", "")
        self.fate = self.asked = "ok"
        """What became of its last step, and of its last question to the bank."""
        self.result: object = None
        self.error: Exception | None = None
        self.position: object = None
        """Where it stands and what it knows, as `states` saw it; None while nobody has looked."""

    def run(self) -> None:
        try:
            self.result = self.story()
        except Exception as error:
            self.error = error

    def stand(self, stop: Stop) -> str:
        """Called by the actor itself: wait for one's turn; answers the step's fate."""
        self.at = stop
        self.parent.switch()
        return self.fate

    def move(self, fate: str) -> None:
        """Called by the scheduler: on to the next step."""
        if self.at.kind == "bank":
            self.asked = fate
        self.fate, self.position = fate, None
        self.switch()

    def kill(self) -> None:
        """It stands outside of any transaction, so that nothing changes."""
        if not self.dead:
            self.throw(GreenletExit)


def step_name(frame: FrameType | None) -> str:
    """The program's function that takes this step."""
    while frame:
        if frame.f_globals["__name__"].startswith(tuple(PROGRAM)):
            return frame.f_code.co_name
        frame = frame.f_back
    return "?"
