"""The table of the outbox: one row per receipt e-mail, whether it was sent or not."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, Integer, String, Uuid, text
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base, BigId, UtcDateTime


class OutboxEmail(Base):
    """One receipt e-mail. `message_id` is part of its Message-ID, so that a repeated e-mail can be recognised."""

    __tablename__ = "outbox_email"
    __table_args__ = (
        Index("ix_outbox_email_due", "send_at",
              postgresql_where=text("sent_at IS NULL AND gave_up_at IS NULL"),
              sqlite_where=text("sent_at IS NULL AND gave_up_at IS NULL")),
        Index("ix_outbox_email_given_up", "gave_up_at",
              postgresql_where=text("gave_up_at IS NOT NULL"), sqlite_where=text("gave_up_at IS NOT NULL")),
    )  # fmt: skip

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    charge_id: Mapped[int] = mapped_column(ForeignKey("charge.id"), unique=True)
    message_id: Mapped[UUID] = mapped_column(Uuid)
    send_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """The next try happens at this time or later. A lease and the back-off move it forward."""
    tries: Mapped[int] = mapped_column(Integer, default=0)
    sent_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    gave_up_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    note: Mapped[str | None] = mapped_column(String(200))
    """The reason why the last try failed."""
