"""The bank's statement: an account's movements of money, oldest first. It alone decides how often money moved."""

from collections.abc import Iterator

from sqlalchemy import Engine, select

from app.gateways.base import StatementEntry
from sandbox_bank.storage import movements, reading

BATCH = 2000
"""Rows per query. A million movements are never in memory together, and each transaction reads one batch only."""


def statement(engine: Engine, account: str | None = None) -> Iterator[StatementEntry]:
    """Yield every movement that was committed before the iteration began, and perhaps later ones.

    Without `account`, yield those of all accounts.
    """
    last = 0
    of = movements.c
    fields_of_entry = [of[name] for name in ("key", "kind", "amount", "currency", "at", "shop_id", "charge")]
    lines = select(of.id, *fields_of_entry).order_by(of.id).limit(BATCH)
    if account is not None:
        lines = lines.where(of.account == account)
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
