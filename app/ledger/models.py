"""Ledger entries. Triggers refuse to update or delete them."""

from datetime import datetime

from sqlalchemy import DDL, BigInteger, CheckConstraint, ForeignKey, Index, String, event, text
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base, BigId, UtcDateTime, from_now


class LedgerEntry(Base):
    """One side of a posting. `amount` is in minor units, debits positive. The entries of a posting sum to zero."""

    __tablename__ = "ledger_entry"
    __table_args__ = (
        CheckConstraint("amount <> 0", name="amount_not_zero"),
        Index("uq_ledger_entry_one_posting_per_charge", "charge_id", "account", "kind", unique=True,
              postgresql_where=text("refund_id IS NULL AND dispute_id IS NULL"),
              sqlite_where=text("refund_id IS NULL AND dispute_id IS NULL")),
        Index("uq_ledger_entry_one_posting_per_refund", "refund_id", "account", "kind", unique=True,
              postgresql_where=text("refund_id IS NOT NULL"), sqlite_where=text("refund_id IS NOT NULL")),
        Index("uq_ledger_entry_one_posting_per_dispute", "dispute_id", "account", "kind", unique=True,
              postgresql_where=text("dispute_id IS NOT NULL"), sqlite_where=text("dispute_id IS NOT NULL")),
    )  # fmt: skip

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    charge_id: Mapped[int] = mapped_column(ForeignKey("charge.id"))
    refund_id: Mapped[int | None] = mapped_column(ForeignKey("refund.id"))
    dispute_id: Mapped[int | None] = mapped_column(ForeignKey("dispute.id"))
    kind: Mapped[str] = mapped_column(String(20))
    """See `book.Kind`."""
    account: Mapped[str] = mapped_column(String(40))
    amount: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(String(3))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=from_now(0))


POSTGRESQL = """
CREATE FUNCTION refuse_ledger_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'the ledger is append-only' USING ERRCODE = 'check_violation'; END $$;
CREATE TRIGGER ledger_entry_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_entry
FOR EACH STATEMENT EXECUTE FUNCTION refuse_ledger_change()
"""

SQLITE = tuple(
    f"CREATE TRIGGER ledger_entry_refuse_{verb.lower()} BEFORE {verb} ON ledger_entry "
    "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
    for verb in ("UPDATE", "DELETE")
)

event.listen(LedgerEntry.__table__, "after_create", DDL(POSTGRESQL).execute_if(dialect="postgresql"))
for _statement in SQLITE:
    event.listen(LedgerEntry.__table__, "after_create", DDL(_statement).execute_if(dialect="sqlite"))
