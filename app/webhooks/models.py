"""Every event that a gateway told us, once: its row is written in the same transaction as what follows from it."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base, BigId, UtcDateTime, from_now


class Event(Base):
    """`effect`: recorded (the books say what the gateway says now), noted (`note`, for the merchant), ignored (of no
    concern), foreign (about a payment that is none of ours). `happened_at` is the gateway's time, UTC."""

    __tablename__ = "webhook_event"
    __table_args__ = (
        UniqueConstraint("gateway", "event"),
        CheckConstraint("effect IN ('foreign', 'ignored', 'noted', 'recorded')", name="effect_known"),
        Index("ix_webhook_event_charge_id", "charge_id"),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    gateway: Mapped[str] = mapped_column(String(20))
    event: Mapped[str] = mapped_column(String(255))
    """The gateway's own name for it."""
    kind: Mapped[str] = mapped_column(String(255))
    effect: Mapped[str] = mapped_column(String(10))
    charge_id: Mapped[int | None] = mapped_column(ForeignKey("charge.id"))
    note: Mapped[str | None] = mapped_column(String(200))
    happened_at: Mapped[datetime] = mapped_column(UtcDateTime)
    received_at: Mapped[datetime] = mapped_column(UtcDateTime, default=from_now(0))
