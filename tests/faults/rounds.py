"""How often each fault is injected, and a line of figures for each test."""

import os

TIMES = int(os.environ.get("FAULTS_TIMES", "1"))
"""Multiplies the number of faults: 1 in `make test`, 10 in `make soak`."""


def report(fault: str, **figures: object) -> None:
    """Print one line of figures, which `pytest -s` shows. They are measured, not asserted."""
    words = ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in figures.items())
    print(f"\n{fault}: {words}", flush=True)
