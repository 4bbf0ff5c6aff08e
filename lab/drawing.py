"""The trace as a picture: one vertical line per actor and one row per step. A template draws it as SVG."""

from collections.abc import Sequence
from dataclasses import dataclass

from lab.trace import BANK, DATABASE, RECOVERY, SHOPPER, Step

WIDTH, ROW, HEAD, LEFT, RIGHT = 1040, 30, 56, 120, 80
"""In units of the picture, about one pixel each."""
WORKERS_SHOWN = 2
CHARACTER = 7.0
"""Approximate width of one character, to find out whether a text fits beside its arrow."""


@dataclass(frozen=True)
class Row:
    """One step: an arrow from `x` to `to`, or a dot at `x` if the step is not a message."""

    y: int
    x: int
    to: int | None
    text_x: int
    anchor: str
    text: str
    kind: str
    at: str


@dataclass(frozen=True)
class Lifeline:
    """The vertical line of an actor. It ends at `end`, early if the actor is `killed`."""

    name: str
    x: int
    end: int
    killed: bool


@dataclass(frozen=True)
class Drawing:
    """The data of the template. `hidden` is the number of workers that are not drawn."""

    width: int
    height: int
    lifelines: list[Lifeline]
    rows: list[Row]
    hidden: int


def mark_repeats(steps: Sequence[Step]) -> list[Step]:
    """Return the relevant steps. Every charge after the first one gets the kind "again"."""
    charges, marked = 0, []
    for step in _without_idle_queries(steps):
        charges += step.kind == "money"
        again = step.kind == "money" and charges > 1
        marked.append(Step(step.at, step.actor, step.text, step.to, "again", step.pid) if again else step)
    return marked


def draw(steps: Sequence[Step]) -> Drawing:
    """Return the picture of a trace. If there are many workers, it shows the WORKERS_SHOWN most relevant ones."""
    workers = _workers(steps)
    shown = _shown(steps, workers)
    actors = [SHOPPER, *shown, *([RECOVERY] if _acts(steps, RECOVERY) else []), DATABASE, BANK]
    column = (WIDTH - LEFT - RIGHT) // (len(actors) - 1)
    columns = {actor: LEFT + number * column for number, actor in enumerate(actors)}
    kept = [step for step in steps if step.actor in columns and (step.to or SHOPPER) in columns]
    rows = [_row(index, step, columns) for index, step in enumerate(kept)]
    height = HEAD + ROW * (len(rows) + 1)
    return Drawing(WIDTH, height, _lifelines(columns, rows, height), rows, len(workers) - len(shown))


def _row(index: int, step: Step, columns: dict[str, int]) -> Row:
    """The text begins at the left end of its arrow. If it is too long for the arrow, it ends at the right end."""
    x, to = columns[step.actor], columns.get(step.to)
    text = step.text + (" again" if step.kind == "again" else "")
    if to is None:
        leftwards = x > WIDTH / 2
        text_x = x - 16 if leftwards else x + 12
    else:
        leftwards = len(text) * CHARACTER > abs(x - to) - 24
        text_x = max(x, to) - 14 if leftwards else min(x, to) + 14
    anchor = "end" if leftwards else "start"
    return Row(HEAD + ROW * (index + 1), x, to, text_x, anchor, text, step.kind, f"{step.at:.2f}")


def _without_idle_queries(steps: Sequence[Step]) -> list[Step]:
    """Recovery asks the database until nothing is due. Leave out its steps after the commit of its last record."""
    records = [number for number, step in enumerate(steps) if step.actor == RECOVERY and "SET status" in step.text]
    commits = [number for number, step in enumerate(steps) if step.actor == RECOVERY and step.kind == "wrote"]
    last = next((number for number in commits if records and number > records[-1]), len(steps))
    return [step for number, step in enumerate(steps) if step.actor != RECOVERY or number <= last]


def _lifelines(columns: dict[str, int], rows: list[Row], height: int) -> list[Lifeline]:
    ends = {row.x: row.y for row in rows if row.kind == "killed"}
    return [Lifeline(actor, x, ends.get(x, height), x in ends) for actor, x in columns.items()]


def _workers(steps: Sequence[Step]) -> list[str]:
    return sorted({step.actor for step in steps if step.actor.startswith("worker")}, key=lambda name: int(name[7:]))


def _shown(steps: Sequence[Step], workers: list[str]) -> list[str]:
    """Prefer the workers that asked the bank, in the order of their questions."""
    asked = [step.actor for step in steps if step.to == BANK and step.actor in workers]
    first = list(dict.fromkeys([*asked, *workers]))[:WORKERS_SHOWN]
    return sorted(first, key=workers.index)


def _acts(steps: Sequence[Step], actor: str) -> bool:
    return any(step.actor == actor for step in steps)
