"""The bank's statement: every movement of money, oldest first. It alone decides how often money moved."""

from collections.abc import Iterator

from sqlalchemy import Engine, select

from app.gateways.base import StatementEntry
from sandbox_bank.storage import movements, reading

BATCH = 2000
"""Rows per query. A million movements are never in memory together, and each transaction reads one batch only."""


def statement(engine: Engine) -> Iterator[StatementEntry]:
    """Yield every movement that was committed before the iteration began, and perhaps later ones."""
    last = 0
    of = movements.c
    lines = select(of.id, of.key, of.kind, of.amount, of.currency, of.at).order_by(of.id).limit(BATCH)
    while True:
        with reading(engine) as tx:
            rows = tx.execute(lines.where(of.id > last)).all()
        if not rows:
            return
        for last, *fields in rows:  # noqa: B007  (the next batch begins after `last`)
            yield StatementEntry(*fields)


def entry_json(entry: StatementEntry) -> dict[str, str | int]:
    """Return the entry as a JSON object. `amount` is in minor units, `at` is ISO 8601 in UTC."""
    return {
        "key": entry.key,
        "kind": entry.kind,
        "amount": entry.amount,
        "currency": entry.currency,
        "at": entry.at.isoformat(),
    }
