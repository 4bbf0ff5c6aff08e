"""Every event that a gateway sent, stored once, in the same transaction as its effect."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base, BigId, UtcDateTime, from_now


class WebhookEvent(Base):
    """One event. `effect` is one of

    recorded: the shop's records now agree with the gateway; noted: `note` is for the merchant;
    ignored: the shop does not react to this kind; foreign: the payment is not ours.

    `happened_at` is the gateway's time, UTC.
    """

    __tablename__ = "webhook_event"
    __table_args__ = (
        UniqueConstraint("gateway", "event_id"),
        CheckConstraint("effect IN ('foreign', 'ignored', 'noted', 'recorded')", name="effect_known"),
        Index("ix_webhook_event_charge_id", "charge_id"),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    gateway: Mapped[str] = mapped_column(String(20))
    event_id: Mapped[str] = mapped_column(String(255))
    """The gateway's id for the event."""
    kind: Mapped[str] = mapped_column(String(255))
    effect: Mapped[str] = mapped_column(String(10))
    charge_id: Mapped[int | None] = mapped_column(ForeignKey("charge.id"))
    note: Mapped[str | None] = mapped_column(String(200))
    happened_at: Mapped[datetime] = mapped_column(UtcDateTime)
    received_at: Mapped[datetime] = mapped_column(UtcDateTime, default=from_now(0))
