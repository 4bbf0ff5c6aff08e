"""The table of measured rates and ratios. Rates depend on the machine, so only ratios have floors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

Rates = Mapping[str, Sequence[float]]
"""Requests or payments per second: for each contender one figure per round."""


@dataclass(frozen=True)
class Ratio:
    """A contender's rate divided by another contender's in the same round, or by a number.

    The bench fails if the ratio is below `floor`. If that is None, the ratio is only shown.
    """

    of: str
    to: str | float
    words: str
    floor: float | None = None
    aim: float = 0.0

    def measured(self, rates: Rates) -> float:
        """Return the median of the ratios of all rounds. A cause that slows a whole round down does not change it."""
        base = rates[self.to] if isinstance(self.to, str) else [self.to] * len(rates[self.of])
        return median(rate / other for rate, other in zip(rates[self.of], base, strict=True))


SLOW_BANK, SLOW_CONNECTIONS = 0.3, 64
MOST_WITH_SLOW_BANK = SLOW_CONNECTIONS / SLOW_BANK
"""Payments per second that the connections can make if each only waits for the bank."""

NAMES = {
    "a": "database alone, both transactions, pgbench, 16 clients",
    "b": "naive handler in the same shop, 16 connections",
    "c": "this checkout, immediate bank, 16 connections",
    "d": "replays of one token, 50 connections",
    "e": f"this checkout, bank of {SLOW_BANK * 1000:.0f} ms, {SLOW_CONNECTIONS} connections",
    "f": "catalogue, 16 connections",
    "g": "receipt, 16 connections",
    "h": "bare handler that checks nothing, 16 connections",
}
RATIOS = (
    Ratio("c", "b", "c / b", floor=0.5, aim=0.7),
    Ratio("c", "a", "c / a", floor=0.15, aim=0.2),
    Ratio("d", "c", "d / c", floor=3.0, aim=3.1),
    Ratio("e", MOST_WITH_SLOW_BANK, f"e / {MOST_WITH_SLOW_BANK:.0f}", floor=0.6, aim=0.9),
    Ratio("c", "h", "c / h"),
)


def rows(rates: Rates) -> list[str]:
    """Return the lines of the table: the rates, then the ratios with their floors."""
    lines = [f"{'':58}{'per second':>10}   least to most"]
    for key, name in NAMES.items():
        low, high = min(rates[key]), max(rates[key])
        lines.append(f"({key}) {name:54}{median(rates[key]):>10,.0f}   {low:,.0f} to {high:,.0f}")
    lines += ["", f"{'ratio':12}{'median':>8}{'floor':>8}{'aim':>8}"]
    return lines + [_row(ratio, ratio.measured(rates)) for ratio in RATIOS]


def _row(ratio: Ratio, measured: float) -> str:
    if ratio.floor is None:
        return f"{ratio.words:12}{measured:>8.2f}"
    verdict = "below the floor" if measured < ratio.floor else "ok" if measured < ratio.aim else "ok, aim reached"
    return f"{ratio.words:12}{measured:>8.2f}{ratio.floor:>8.2f}{ratio.aim:>8.2f}   {verdict}"


def below_floor(rates: Rates) -> list[str]:
    """Return the ratios that are below their floors."""
    return [ratio.words for ratio in RATIOS if ratio.floor and ratio.measured(rates) < ratio.floor]
