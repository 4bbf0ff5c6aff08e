"""The bank's accounts. Any API key opens one. The first account adopts the books of an earlier version."""

from datetime import UTC, datetime
from hashlib import sha256

from sqlalchemy import Connection, Engine, inspect, text

from sandbox_bank.storage import CREATION_LOCK, accounts, insert_into

EARLIER = {
    "bank_charges": (
        "INSERT INTO bank_account_charge (account, key, status, reason, fingerprint, amount, currency, last4, shop, "
        "return_url, action_id, calls, refunded) SELECT :account, key, status, reason, fingerprint, amount, currency, "
        "last4, shop, return_url, action_id, calls, refunded FROM bank_charges"
    ),
    "bank_movements": (
        "INSERT INTO bank_account_movement (account, key, charge, kind, amount, currency, at) "
        "SELECT :account, m.key, coalesce(r.charge, m.key), m.kind, m.amount, m.currency, m.at FROM bank_movements m "
        "LEFT JOIN bank_refunds r ON r.key = m.key AND m.kind = 'refund' ORDER BY m.id"
    ),
    "bank_refunds": (
        "INSERT INTO bank_account_refund (account, key, charge, status, reason, amount, currency) "
        "SELECT :account, key, charge, status, reason, amount, currency FROM bank_refunds"
    ),
}
"""How to copy each table of a version without accounts, in an order in which no table is missed."""


def account_id(api_key: str) -> str:
    """Return the id of the key's account. The key can't be computed from it."""
    return sha256(api_key.encode()).hexdigest()


def open_account(engine: Engine, account: str) -> None:
    """Open the account. The first one adopts the books of an earlier version and drops their tables. Idempotent."""
    with engine.begin() as tx:
        if tx.dialect.name == "postgresql":
            tx.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": CREATION_LOCK})
        new = insert_into(tx, accounts).values(id=account, opened_at=datetime.now(UTC))
        if tx.execute(new.on_conflict_do_nothing()).rowcount == 1:
            _adopt(tx, account)


def _adopt(tx: Connection, account: str) -> None:
    if inspect(tx).has_table("bank_movements"):
        for copy in EARLIER.values():
            tx.execute(text(copy), {"account": account})
        for table in EARLIER:
            tx.execute(text(f"DROP TABLE {table}"))
