"""The seven defences: six as real shops have them, each an app of its own, and PayOnce."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask import Flask
from sqlalchemy import Engine

from lab.clock import Clock
from lab.defences import button, checked, keyless, none, prg, uncommitted
from lab.defences.till import Till


@dataclass(frozen=True)
class Defence:
    """A row of the matrix. `create` is None for PayOnce, which comes with databases of its own."""

    number: int
    name: str
    words: str
    create: Callable[[Till, Engine, Clock], Flask] | None
    module: Any = None


PAYONCE = Defence(7, "PayOnce", "the very code that this shop runs", None)

DEFENCES = (
    Defence(1, "None", "post, charge, show the receipt", none.create, none),
    Defence(2, "PRG only", "after the charge, a redirect", prg.create, prg),
    Defence(3, "PRG and a disabled button", "a script stops the second click", button.create, button),
    Defence(4, "Token, checked then inserted", "looked up, then stored for a day", checked.create, checked),
    Defence(5, "Unique token, early charge", "the bank is asked before the commit",
            uncommitted.create, uncommitted),
    Defence(6, "Unique token, no bank key", "no answer counts as declined",
            keyless.create, keyless),
    PAYONCE,
)  # fmt: skip
