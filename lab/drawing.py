"""The trace as a picture: one line down the page for each actor, one row for each step, drawn as SVG by a template."""

from collections.abc import Sequence
from dataclasses import dataclass

from lab.trace import BANK, DATABASE, RECOVERY, SHOPPER, Step

WIDTH, ROW, HEAD, LEFT, RIGHT = 1040, 30, 56, 120, 80
"""In units of the picture, about a pixel each."""
WORKERS_SHOWN = 2
LETTER = 7.0
"""Width of a letter, to know which words fit beside their arrow."""


@dataclass(frozen=True)
class Row:
    """One step: an arrow from `x` to `to`, or a dot at `x` where it is nobody's message."""

    y: int
    x: int
    to: int | None
    text_x: int
    anchor: str
    text: str
    kind: str
    at: str


@dataclass(frozen=True)
class Life:
    """An actor's line, from the head of the picture down to its end; `killed`: it ends early."""

    name: str
    x: int
    end: int
    killed: bool


@dataclass(frozen=True)
class Drawing:
    """What the template draws. `hidden`: workers that did as the ones shown."""

    width: int
    height: int
    lives: list[Life]
    rows: list[Row]
    hidden: int


def label(steps: Sequence[Step]) -> list[Step]:
    """The steps that matter, every taking of the money after the first one marked: kind "again"."""
    taken, marked = 0, []
    for step in _without_idle_looks(steps):
        taken += step.kind == "money"
        again = step.kind == "money" and taken > 1
        marked.append(Step(step.at, step.actor, step.what, step.to, "again", step.pid) if again else step)
    return marked


def draw(steps: Sequence[Step]) -> Drawing:
    """The picture of a trace; of many workers, the two that matter most."""
    workers = _workers(steps)
    shown = _shown(steps, workers)
    actors = [SHOPPER, *shown, *([RECOVERY] if _acts(steps, RECOVERY) else []), DATABASE, BANK]
    column = (WIDTH - LEFT - RIGHT) // (len(actors) - 1)
    at = {actor: LEFT + number * column for number, actor in enumerate(actors)}
    kept = [step for step in steps if step.actor in at and (step.to or SHOPPER) in at]
    rows = [_row(index, step, at) for index, step in enumerate(kept)]
    height = HEAD + ROW * (len(rows) + 1)
    return Drawing(WIDTH, height, _lives(at, rows, height), rows, len(workers) - len(shown))


def _row(index: int, step: Step, at: dict[str, int]) -> Row:
    """The words begin at the left end of their arrow, or end at its right end where they would run over it."""
    x, to = at[step.actor], at.get(step.to)
    words = step.what + (" again" if step.kind == "again" else "")
    if to is None:
        leftwards = x > WIDTH / 2
        text_x = x - 16 if leftwards else x + 12
    else:
        leftwards = len(words) * LETTER > abs(x - to) - 24
        text_x = max(x, to) - 14 if leftwards else min(x, to) + 14
    anchor = "end" if leftwards else "start"
    return Row(HEAD + ROW * (index + 1), x, to, text_x, anchor, words, step.kind, f"{step.at:.2f}")


def _without_idle_looks(steps: Sequence[Step]) -> list[Step]:
    """Recovery looks until nothing is due: what it looks at after its last record is left out."""
    done = [number for number, step in enumerate(steps) if step.actor == RECOVERY and "SET status" in step.what]
    commits = [number for number, step in enumerate(steps) if step.actor == RECOVERY and step.kind == "wrote"]
    last = next((number for number in commits if done and number > done[-1]), len(steps))
    return [step for number, step in enumerate(steps) if step.actor != RECOVERY or number <= last]


def _lives(at: dict[str, int], rows: list[Row], height: int) -> list[Life]:
    ends = {row.x: row.y for row in rows if row.kind == "killed"}
    return [Life(actor, x, ends.get(x, height), x in ends) for actor, x in at.items()]


def _workers(steps: Sequence[Step]) -> list[str]:
    return sorted({step.actor for step in steps if step.actor.startswith("worker")}, key=lambda name: int(name[7:]))


def _shown(steps: Sequence[Step], workers: list[str]) -> list[str]:
    """First those that asked the bank, in the order of their asking; then the others."""
    asked = [step.actor for step in steps if step.to == BANK and step.actor in workers]
    first = list(dict.fromkeys([*asked, *workers]))[:WORKERS_SHOWN]
    return sorted(first, key=workers.index)


def _acts(steps: Sequence[Step], actor: str) -> bool:
    return any(step.actor == actor for step in steps)
