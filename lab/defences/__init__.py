"""The seven defences: six as real shops have them, each a Flask application of its own, and PayOnce."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask import Flask
from sqlalchemy import Engine

from lab.clock import Clock
from lab.defences import button, checked, keyless, none, prg, uncommitted
from lab.defences.payment_client import PaymentClient


@dataclass(frozen=True)
class Defence:
    """A row of the matrix. `create` and `module` are None for PayOnce, which creates its own database."""

    number: int
    name: str
    description: str
    create: Callable[[PaymentClient, Engine, Clock], Flask] | None
    module: Any = None


PAYONCE = Defence(7, "PayOnce", "the same code that this shop runs", None)

DEFENCES = (
    Defence(1, "None", "post, charge, show the receipt", none.create, none),
    Defence(2, "PRG only", "redirect after the charge", prg.create, prg),
    Defence(3, "PRG and a disabled button", "a script stops the second click", button.create, button),
    Defence(4, "Token, checked then inserted", "looked up, then stored for a day", checked.create, checked),
    Defence(5, "Unique token, early charge", "the bank is asked before the commit",
            uncommitted.create, uncommitted),
    Defence(6, "Unique token, no bank key", "no answer counts as declined",
            keyless.create, keyless),
    PAYONCE,
)  # fmt: skip
