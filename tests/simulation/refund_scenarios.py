"""The actors of the scenarios in which a charge is refunded."""

from typing import TYPE_CHECKING
from uuid import uuid5

from lab.stage import actors
from lab.stage.actors import Script
from lab.stage.forms import KEYS, PRICE, form

if TYPE_CHECKING:
    from lab.stage.stage import Stage


def refund_twins(stage: "Stage") -> dict[str, Script]:
    key = uuid5(KEYS, "refund")
    refunders = {name: actors.refunder(stage, form(1), PRICE, key) for name in ("A", "B")}
    return refunders | {"R": actors.worker(stage, turns=2)}


def refund_rivals(stage: "Stage") -> dict[str, Script]:
    amounts = {"A": PRICE, "B": 1000}
    refunders = {n: actors.refunder(stage, form(1), sum_, uuid5(KEYS, f"refund {n}")) for n, sum_ in amounts.items()}
    return refunders | {"R": actors.worker(stage, turns=2)}


def refund_repeated(stage: "Stage") -> dict[str, Script]:
    """The first command can be killed at any step, like every actor."""
    keys = {"A": "refund", "B": "refund", "C": "refund without --key"}
    operators = {n: actors.refunder(stage, form(1), 1000, uuid5(KEYS, key), again=False) for n, key in keys.items()}
    return operators | {"R": actors.worker(stage)}
