"""Charges, refunds, disputes, and "the same order again". Constraints enforce the rules; so do `triggers`."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Double,
    Enum,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    String,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.charges.states import (
    LIVE,
    PENDING,
    REFUND_PENDING,
    WITHOUT_REFUND,
    DisputeStatus,
    RefundStatus,
    Status,
    sql_list,
)
from app.database import Base, BigId, UtcDateTime, from_now

ARRIVALS_COUNTED = 10
"""Arrivals of one form are counted up to this number. More are "many", and cost no write."""

RECEIPT_ID_LENGTH = 36


def _text(kind: type[StrEnum]) -> Enum:
    """A VARCHAR(15) that is read and written as this enumeration. A constraint lists the allowed values."""
    return Enum(
        kind,
        native_enum=False,
        length=15,
        create_constraint=False,
        values_callable=lambda kind: [each.value for each in kind],
    )


StatusType, RefundStatusType, DisputeStatusType = _text(Status), _text(RefundStatus), _text(DisputeStatus)
ReceiptId = String(RECEIPT_ID_LENGTH).with_variant(String(RECEIPT_ID_LENGTH, collation="C"), "postgresql")
"""See `tokens.new_receipt_id`. Compared byte by byte, so that the index of new ids grows at its end."""


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
        Index("ix_charge_network", "network",
              postgresql_where=text("network IS NOT NULL"), sqlite_where=text("network IS NOT NULL")),
        Index("ix_charge_due", "ask_at",
              postgresql_where=text(f"status IN ({sql_list(PENDING)})"),
              sqlite_where=text(f"status IN ({sql_list(PENDING)})")),
    )  # fmt: skip

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    key: Mapped[UUID] = mapped_column(Uuid, unique=True)
    """The token's key and the idempotency key at the gateway. Kept permanently."""
    receipt_id: Mapped[str] = mapped_column(ReceiptId, unique=True)
    """Made by the request that claims: it identifies the owner of the row and is the receipt's unguessable address."""
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    buyer_id: Mapped[UUID] = mapped_column(Uuid)
    """The order's buyer. At the claim, that is the buyer that the token was made for."""
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

    request_id: Mapped[str | None] = mapped_column(String(36))
    """The id in the logs of the request that claimed. Recovery's log lines about the charge have it, too."""

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
    attention: Mapped[str | None] = mapped_column(String(200))
    """Why a person must look at it, if recovery can't settle it."""
    gateway_message: Mapped[str | None] = mapped_column(String(500))
    """The gateway's own words when it refused, for the merchant only."""
    gateway_request_id: Mapped[str | None] = mapped_column(String(100))
    """The gateway's id of the request that it refused, for its support."""

    ask_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """When recovery may next ask about the charge. A lease and the back-off move it forward."""
    asked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When recovery last asked without learning the outcome. Only a worker writes it, not the shopper's request."""
    times_asked: Mapped[int] = mapped_column(Integer, default=0)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=from_now(0))
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    network: Mapped[str | None] = mapped_column(String(16))
    """A pseudonym of the shopper's network, see `limiter.network_pseudonym`. Erased when the charge ends."""
    hold_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Until when an unconfirmed payment holds its goods, even if others need them. None: until it ends."""
    wanted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When a claim first lacked the goods that this unconfirmed payment holds."""


LIVE_STRAY = f"stray AND status NOT IN ({sql_list(WITHOUT_REFUND)})"
"""A stray payment is owed back by one refund at a time. If it ends without money, the next one is owed."""


class Refund(Base):
    """Money on its way back, under a key of its own. `amount` is in minor units of the charge's currency."""

    __tablename__ = "refund"
    __table_args__ = (
        CheckConstraint(f"status IN ({sql_list(RefundStatus)})", name="status_known"),
        CheckConstraint(f"(status IN ({sql_list(REFUND_PENDING)})) = (ended_at IS NULL)", name="ended_when_ended"),
        CheckConstraint("amount > 0", name="amount_positive"),
        Index("ix_refund_charge_id", "charge_id"),
        Index("uq_refund_one_stray_per_charge", "charge_id", unique=True,
              postgresql_where=text(LIVE_STRAY), sqlite_where=text(LIVE_STRAY)),
        Index("ix_refund_attention", "status",
              postgresql_where=text("attention IS NOT NULL"), sqlite_where=text("attention IS NOT NULL")),
        Index("ix_refund_due", "ask_at",
              postgresql_where=text(f"status IN ({sql_list(REFUND_PENDING)})"),
              sqlite_where=text(f"status IN ({sql_list(REFUND_PENDING)})")),
    )  # fmt: skip

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    charge_id: Mapped[int] = mapped_column(ForeignKey("charge.id"))
    key: Mapped[UUID] = mapped_column(Uuid, unique=True)
    amount: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[RefundStatus] = mapped_column(RefundStatusType, default=RefundStatus.PROCESSING)
    stray: Mapped[bool] = mapped_column(default=False)
    """True if it gives a stray payment back."""
    reason: Mapped[str | None] = mapped_column(String(60))
    note: Mapped[str | None] = mapped_column(String(200))
    attention: Mapped[str | None] = mapped_column(String(200))
    """Why a person must look at it: recovery can't settle it, or it failed after it had succeeded."""
    gateway_reference: Mapped[str | None] = mapped_column(String(255))
    gateway_message: Mapped[str | None] = mapped_column(String(500))
    gateway_request_id: Mapped[str | None] = mapped_column(String(100))
    ask_at: Mapped[datetime] = mapped_column(UtcDateTime)
    asked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When recovery last asked without learning the outcome."""
    send_until: Mapped[datetime] = mapped_column(UtcDateTime)
    """After this time nothing is sent any more, because the gateway may forget the key. Withdrawing ends it early."""
    times_asked: Mapped[int] = mapped_column(Integer, default=0)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=from_now(0))
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Dispute(Base):
    """A chargeback. `amount` and `fee` are in minor units of the charge's currency; times are UTC."""

    __tablename__ = "dispute"
    __table_args__ = (
        UniqueConstraint("charge_id", "gateway_reference"),
        CheckConstraint(f"status IN ({sql_list(DisputeStatus)})", name="status_known"),
        CheckConstraint("(status = 'open') = (ended_at IS NULL)", name="ended_when_ended"),
        CheckConstraint("amount > 0 AND fee >= 0", name="amount_positive"),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    charge_id: Mapped[int] = mapped_column(ForeignKey("charge.id"))
    gateway_reference: Mapped[str] = mapped_column(String(255))
    """The gateway's id for the dispute."""
    status: Mapped[DisputeStatus] = mapped_column(DisputeStatusType, default=DisputeStatus.OPEN)
    amount: Mapped[int] = mapped_column(BigInteger)
    fee: Mapped[int] = mapped_column(BigInteger, default=0)
    reason: Mapped[str | None] = mapped_column(String(60))
    evidence_due_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=from_now(0))
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class SameOrder(Base):
    """The lock of "the same order again": one row per fingerprint, which simultaneous claims wait for."""

    __tablename__ = "same_order"

    fingerprint: Mapped[str] = mapped_column(String(64), primary_key=True)


class SameOrderCharge(Base):
    """One row per claim: the charges with the same goods, total and e-mail address. Deleted once it can't matter."""

    __tablename__ = "same_order_charge"
    __table_args__ = (Index("ix_same_order_charge_charge_id", "charge_id"),)

    fingerprint: Mapped[str] = mapped_column(String(64), primary_key=True)
    charge_id: Mapped[int] = mapped_column(ForeignKey("charge.id"), primary_key=True)


class ArrivalRow(Base):
    """One form that arrived for a charge. It names the charge by its key, so that writing it needs no lock."""

    __tablename__ = "arrival"
    __table_args__ = (Index("ix_arrival_charge_key", "charge_key"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    charge_key: Mapped[UUID] = mapped_column(Uuid)
    arrived_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """By the clock of the host."""
    request_id: Mapped[str | None] = mapped_column(String(36))
    browser: Mapped[str] = mapped_column(String(20))
    """The family, such as "Firefox". The whole header would identify people."""
    network: Mapped[str] = mapped_column(String(45))
    """The shortened address: /24 of IPv4, /48 of IPv6."""
    answer: Mapped[str] = mapped_column(String(20))
    """What the sender was told: the charge's status, or "repeat" or "other_form"."""


class QuestionRow(Base):
    """One question to a gateway and how it was answered (see gateways/questions.py). Times by the host's clock."""

    __tablename__ = "question"
    __table_args__ = (Index("ix_question_charge_key", "charge_key", "id"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    charge_key: Mapped[UUID] = mapped_column(Uuid)
    refund_key: Mapped[UUID | None] = mapped_column(Uuid)
    kind: Mapped[str] = mapped_column(String(20))
    asked_by: Mapped[str] = mapped_column(String(10))
    """request, recovery or command"""
    asked_at: Mapped[datetime] = mapped_column(UtcDateTime)
    seconds: Mapped[float] = mapped_column(Double)
    result: Mapped[str] = mapped_column(String(20))
    provider_request_id: Mapped[str | None] = mapped_column(String(100))
    note: Mapped[str | None] = mapped_column(String(200))


class AuditRun(Base):
    """The last audit: one row. The numbers are those of its report."""

    __tablename__ = "audit_run"
    __table_args__ = (CheckConstraint("id = 1", name="only_one"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    ended_at: Mapped[datetime] = mapped_column(UtcDateTime)
    seconds: Mapped[float] = mapped_column(Double)
    broken: Mapped[int] = mapped_column(Integer)
    """Invariants that did not hold."""


class RecoveryCount(Base):
    """What all recovery workers have done since the installation. It is stored, because nobody scrapes them.

    `result` is "processed", or an outcome that was recorded.
    """

    __tablename__ = "recovery_count"

    kind: Mapped[str] = mapped_column(String(20), primary_key=True)
    result: Mapped[str] = mapped_column(String(20), primary_key=True)
    total: Mapped[int] = mapped_column(BigInteger)
    counted_at: Mapped[datetime] = mapped_column(UtcDateTime)
