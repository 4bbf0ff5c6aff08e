"""Steps and actors. An actor is a greenlet that pauses at every transaction and every question to the bank."""

from collections.abc import Callable
from types import FrameType
from typing import NamedTuple

from greenlet import GreenletExit, greenlet

PROGRAM_MODULES = ["app.charges", "app.gateways", "app.orders", "app.webhooks", "lab.stage.actors"]
"""Modules whose functions can take a step. A module with actors of its own appends its name."""

BANK = ("lost", "late", "before", "refused")
"""Fates of a question that fails. `lab.stage.bank` defines them."""

UNSURE = ("lost", "late")
"""Fates of a question after which the bank may have taken money, or may still take it."""


class Broken(Exception):
    """An invariant was broken."""


class NextStep(NamedTuple):
    """The point at which an actor pauses.

    `kind` is "tx" or "read" (a transaction that writes, or only reads), "bank" or "look" (a question that may change
    something at the bank, or a lookup), "pause" (before the same question is asked again) or "when" (until `ready`
    returns true). `label` is the name of the program's function or of the question.
    """

    kind: str
    label: str
    ready: Callable[[], bool] | None = None

    @property
    def immediate(self) -> bool:
        """Return whether this step commutes with every other, so that it can be taken at once.

        A pause concerns no other actor, and nothing depends on the counted arrivals.
        """
        return self.kind == "pause" or self.label == "count"

    @property
    def leases(self) -> str | None:
        """Return the table whose next row recovery is about to lease, or None."""
        return {"_recover_charge": "charge", "_recover_refund": "refund"}.get(self.label) if self.kind == "tx" else None

    def uses_bank_fault(self, fate: str) -> int:
        """Return 1 if this fate is a failure of the bank's connection."""
        return int(self.kind in {"bank", "look"} and fate != "ok")

    def uses_storage_fault(self, fate: str) -> int:
        """Return 1 if this fate is a failure of the storage."""
        return int(self.kind in {"tx", "read"} and fate != "ok")


class Choice(NamedTuple):
    """One step of a schedule: the actor and the fate.

    The actor "network" delivers a question that was held back. Its fate is the number of that question.
    """

    actor: str
    fate: str


class Actor(greenlet):
    """Runs the program's code from step to step."""

    def __init__(self, name: str, script: Callable[[], object]) -> None:
        super().__init__()
        self.name, self.script = name, script
        self.next_step = NextStep("new", "")
        self.fate = self.question_fate = "ok"
        """The fate of its last step, and of its last question to the bank."""
        self.result: object = None
        self.error: Exception | None = None
        self.position: object = None
        """Its position and variables, cached by `states.position`. None after each step."""

    def run(self) -> None:
        try:
            self.result = self.script()
        except Exception as error:
            self.error = error

    def wait(self, next_step: NextStep) -> str:
        """Wait for the next turn and return the step's fate. The actor calls this."""
        self.next_step = next_step
        self.parent.switch()
        return self.fate

    def resume(self, fate: str) -> None:
        """Continue to the next step. The scheduler calls this."""
        if self.next_step.kind == "bank":
            self.question_fate = fate
        self.fate, self.position = fate, None
        self.switch()

    def kill(self) -> None:
        """End the actor. It is outside of any transaction, so nothing changes."""
        if not self.dead:
            self.throw(GreenletExit)


def step_name(frame: FrameType | None) -> str:
    """Return the name of the program's function that takes this step."""
    while frame:
        if frame.f_globals["__name__"].startswith(tuple(PROGRAM_MODULES)):
            return frame.f_code.co_name
        frame = frame.f_back
    return "?"
