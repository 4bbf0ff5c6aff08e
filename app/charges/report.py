"""What the audit has found, as JSON for programs and as lines for people."""

from dataclasses import dataclass, field
from typing import NamedTuple

from app.money import format_money


class Sum(NamedTuple):
    """How much money (minor units of `currency`) in how many entries. `what` is their kind, or a gateway's account."""

    what: str
    currency: str
    entries: int
    amount: int


@dataclass
class Report:
    """What the audit found: offenders by invariant, and what deserves a look although no invariant is broken.

    `foreign` are the gateway's entries that are not ours. `not_compared` is money at accounts that nobody can ask.
    """

    sentences: dict[int, str] = field(default_factory=dict)
    """Every invariant that was checked, by its number."""
    broken: dict[int, list[str]] = field(default_factory=dict)
    open: list[str] = field(default_factory=list)
    stray: list[str] = field(default_factory=list)
    attention: list[str] = field(default_factory=list)
    disputed: list[str] = field(default_factory=list)
    adopted: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    foreign_sums: list[Sum] = field(default_factory=list)
    not_compared: list[Sum] = field(default_factory=list)


def as_json(report: Report) -> dict[str, object]:
    """Return ok, invariants (number, invariant, holds, offenders), and the other lists of the report by their names."""
    invariants = [
        {
            "number": number,
            "invariant": sentence,
            "holds": number not in report.broken,
            "offenders": report.broken.get(number, []),
        }
        for number, sentence in report.sentences.items()
    ]
    return {
        "ok": not report.broken, "invariants": invariants,
        "open": report.open, "stray": report.stray, "attention": report.attention, "disputed": report.disputed,
        "adopted": report.adopted, "foreign": report.foreign,
        "foreign_sums": [each._asdict() for each in report.foreign_sums],
        "not_compared": [each._asdict() for each in report.not_compared],
    }  # fmt: skip


def as_text(report: Report) -> str:
    """Return the report as lines for people."""
    lines = []
    for number, sentence in report.sentences.items():
        offenders = report.broken.get(number, [])
        lines.append(f"{'BROKEN' if offenders else 'holds '} {number}. {sentence}")
        lines += [f"         {offender}" for offender in offenders]
    for title, found in (
        ("Still open", report.open),
        ("Stray payments", report.stray),
        ("Ended, but a person must look", report.attention),
        ("Disputed: hold goods that are not shipped yet", report.disputed),
        ("Adopted payments", report.adopted),
        ("At the gateway, but not ours", report.foreign),
        ("All of these together", _words(report.foreign_sums)),
        ("Not compared, because the account is not configured", _words(report.not_compared)),
    ):
        lines += [f"{title}:", *(f"         {item}" for item in found)] if found else []
    return "\n".join(lines)


def _words(sums: list[Sum]) -> list[str]:
    return [f"{each.what}: {each.entries:,}, {format_money(each.amount, each.currency)}" for each in sums]
