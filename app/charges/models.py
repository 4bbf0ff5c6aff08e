"""Charges, refunds, and the guard row of "the same order again". Constraints and triggers enforce the rules too."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    DDL,
    JSON,
    BigInteger,
    CheckConstraint,
    Enum,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    String,
    Uuid,
    event,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.charges.states import LIVE, PENDING, TRANSITIONS, Status, sql_list
from app.database import Base, BigId, UtcDateTime, from_now

ARRIVALS_COUNTED = 10
"""Arrivals of one form are counted up to this number. More are "many", and cost no write."""

StatusType = Enum(
    Status,
    native_enum=False,
    length=15,
    create_constraint=False,
    values_callable=lambda kind: [each.value for each in kind],
)
"""A VARCHAR(15) that is read and written as `Status`. The constraints below list the allowed values."""


class Charge(Base):
    """One claimed token: one attempt to pay one order. `amount` and `refunded` are in minor units."""

    __tablename__ = "charge"
    __table_args__ = (
        CheckConstraint(f"status IN ({sql_list(frozenset(Status))})", name="status_known"),
        CheckConstraint(f"(status IN ({sql_list(PENDING)})) = (ended_at IS NULL)", name="ended_when_ended"),
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint("refunded >= 0 AND refunded <= amount", name="refunded_within_amount"),
        Index("uq_charge_one_live_per_order", "order_id", unique=True,
              postgresql_where=text(f"status IN ({sql_list(LIVE)})"),
              sqlite_where=text(f"status IN ({sql_list(LIVE)})")),
        Index("ix_charge_order_id", "order_id"),
        Index("ix_charge_due", "ask_at",
              postgresql_where=text(f"status IN ({sql_list(PENDING)})"),
              sqlite_where=text(f"status IN ({sql_list(PENDING)})")),
    )  # fmt: skip

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    key: Mapped[UUID] = mapped_column(Uuid, unique=True)
    """The token's key and the idempotency key at the gateway. Kept permanently."""
    receipt_id: Mapped[UUID] = mapped_column(Uuid, unique=True)
    """Made by the request that claims: it identifies the owner of the row and is the receipt's unguessable address."""
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    status: Mapped[Status] = mapped_column(StatusType, default=Status.PROCESSING)
    amount: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(String(3))
    refunded: Mapped[int] = mapped_column(BigInteger, default=0)
    """Refunded or promised: raised when a refund is claimed, lowered if the gateway declines it."""
    email: Mapped[str] = mapped_column(String(254))
    name: Mapped[str] = mapped_column(String(100))
    last4: Mapped[str | None] = mapped_column(String(4))
    receipt_url: Mapped[str] = mapped_column(String(300))
    """The receipt's address on the host that this shopper used, for the gateway and for e-mails."""
    arrivals: Mapped[int] = mapped_column(SmallInteger, default=1)
    """How often the form of this charge arrived."""
    other_arrivals: Mapped[int] = mapped_column(SmallInteger, default=0)
    """How often another form for the same order arrived."""

    gateway: Mapped[str] = mapped_column(String(20))
    account: Mapped[str] = mapped_column(String(100))
    gateway_reference: Mapped[str | None] = mapped_column(String(255))
    """The gateway's own id for the payment, once it is known."""
    gateway_request: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """The exact request, for gateways that must be able to repeat it."""
    action_url: Mapped[str | None] = mapped_column(String(2000))
    reason: Mapped[str | None] = mapped_column(String(60))
    """Why the charge ended without money: the gateway's code, or one of ours."""
    note: Mapped[str | None] = mapped_column(String(200))
    """Why the outcome is not known yet, for the merchant."""

    ask_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """When recovery may next ask about the charge. A lease and the back-off move it forward."""
    times_asked: Mapped[int] = mapped_column(Integer, default=0)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=from_now(0))
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Refund(Base):
    """Money on its way back, under a key of its own. `amount` is in minor units of the charge's currency."""

    __tablename__ = "refund"
    __table_args__ = (
        CheckConstraint("status IN ('declined', 'in_doubt', 'processing', 'succeeded')", name="status_known"),
        CheckConstraint("(status IN ('in_doubt', 'processing')) = (ended_at IS NULL)", name="ended_when_ended"),
        CheckConstraint("amount > 0", name="amount_positive"),
        Index("ix_refund_charge_id", "charge_id"),
        Index("uq_refund_one_stray_per_charge", "charge_id", unique=True,
              postgresql_where=text("stray"), sqlite_where=text("stray")),
        Index("ix_refund_due", "ask_at",
              postgresql_where=text("status IN ('in_doubt', 'processing')"),
              sqlite_where=text("status IN ('in_doubt', 'processing')")),
    )  # fmt: skip

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    charge_id: Mapped[int] = mapped_column(ForeignKey("charge.id"))
    key: Mapped[UUID] = mapped_column(Uuid, unique=True)
    amount: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[Status] = mapped_column(StatusType, default=Status.PROCESSING)
    stray: Mapped[bool] = mapped_column(default=False)
    """True if it gives a stray payment back."""
    reason: Mapped[str | None] = mapped_column(String(60))
    note: Mapped[str | None] = mapped_column(String(200))
    gateway_reference: Mapped[str | None] = mapped_column(String(255))
    ask_at: Mapped[datetime] = mapped_column(UtcDateTime)
    times_asked: Mapped[int] = mapped_column(Integer, default=0)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=from_now(0))
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class SameOrder(Base):
    """The guard row of "the same order again": the last charge for these goods, this total and this e-mail address."""

    __tablename__ = "same_order"

    fingerprint: Mapped[str] = mapped_column(String(64), primary_key=True)
    charge_id: Mapped[int] = mapped_column(ForeignKey("charge.id"))


LEGAL = " OR ".join(
    f"OLD.status = '{before}' AND NEW.status IN ({sql_list(after)})" for before, after in TRANSITIONS.items() if after
)

CHANGED = "(NEW.{0} <> OLD.{0})"
FIXED = " OR ".join(CHANGED.format(column) for column in ("key", "receipt_id", "order_id", "amount", "currency"))

POSTGRESQL = f"""
CREATE FUNCTION guard_charge() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    RAISE EXCEPTION 'a charge is never deleted' USING ERRCODE = 'check_violation';
  END IF;
  IF {FIXED} THEN
    RAISE EXCEPTION 'the claim of a charge does not change' USING ERRCODE = 'check_violation';
  END IF;
  IF NEW.status <> OLD.status AND NOT ({LEGAL}) THEN
    RAISE EXCEPTION 'a charge does not change from %% to %%', OLD.status, NEW.status USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER charge_guard BEFORE UPDATE OR DELETE ON charge FOR EACH ROW EXECUTE FUNCTION guard_charge()
"""

SQLITE = (
    "CREATE TRIGGER charge_refuse_delete BEFORE DELETE ON charge "
    "BEGIN SELECT RAISE(ABORT, 'a charge is never deleted'); END",
    f"CREATE TRIGGER charge_refuse_change BEFORE UPDATE ON charge WHEN {FIXED} "
    "BEGIN SELECT RAISE(ABORT, 'the claim of a charge does not change'); END",
    f"CREATE TRIGGER charge_refuse_transition BEFORE UPDATE ON charge WHEN NEW.status <> OLD.status AND NOT ({LEGAL}) "
    "BEGIN SELECT RAISE(ABORT, 'a charge does not change that way'); END",
)

event.listen(Charge.__table__, "after_create", DDL(POSTGRESQL).execute_if(dialect="postgresql"))
for _statement in SQLITE:
    event.listen(Charge.__table__, "after_create", DDL(_statement).execute_if(dialect="sqlite"))
