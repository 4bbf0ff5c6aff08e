"""The bank's statement: every movement of money, oldest first. The only truth about how often money moved."""

from collections.abc import Iterator

from sqlalchemy import Engine, select

from app.gateways.base import StatementEntry
from sandbox_bank.storage import movements, reading

BATCH = 2000
"""Rows read at once: a million movements never lie in memory, and no transaction outlives one batch."""


def statement(engine: Engine) -> Iterator[StatementEntry]:
    """All movements that were committed when it was asked for, and perhaps later ones."""
    last = 0
    of = movements.c
    lines = select(of.id, of.key, of.kind, of.amount, of.currency, of.at).order_by(of.id).limit(BATCH)
    while True:
        with reading(engine) as look:
            rows = look.execute(lines.where(of.id > last)).all()
        if not rows:
            return
        for last, *movement in rows:  # noqa: B007  (where the next batch begins)
            yield StatementEntry(*movement)


def entry_json(movement: StatementEntry) -> dict[str, str | int]:
    """A movement as machines read it; `at` is ISO 8601 in UTC."""
    return {
        "key": movement.key,
        "kind": movement.kind,
        "amount": movement.amount,
        "currency": movement.currency,
        "at": movement.at.isoformat(),
    }
