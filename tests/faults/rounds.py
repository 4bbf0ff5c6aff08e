"""How often each fault is made, and what is counted: `make test` makes a tenth of what `make soak` does."""

import os

TIMES = int(os.environ.get("FAULTS_TIMES", "1"))
"""1 in `make test`, 10 in `make soak`."""


def say(fault: str, **figures: object) -> None:
    """One line of figures, shown by `pytest -s`: measured, never asserted."""
    words = ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in figures.items())
    print(f"\n{fault}: {words}", flush=True)
