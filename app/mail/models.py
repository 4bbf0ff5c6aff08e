"""The outbox: letters that are owed, and when they went."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, Integer, String, Uuid, text
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base, BigId, UtcDateTime


class Letter(Base):
    """One receipt by e-mail. `message` makes its Message-ID: a letter that goes out twice is known as the same."""

    __tablename__ = "letter"
    __table_args__ = (
        Index("ix_letter_due", "send_at",
              postgresql_where=text("sent_at IS NULL"), sqlite_where=text("sent_at IS NULL")),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    charge_id: Mapped[int] = mapped_column(ForeignKey("charge.id"), unique=True)
    message: Mapped[UUID] = mapped_column(Uuid)
    send_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """When it may next be tried. Taking the lease moves it on; so does the back-off."""
    tries: Mapped[int] = mapped_column(Integer, default=0)
    sent_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    note: Mapped[str | None] = mapped_column(String(200))
    """Why it could not be sent yet."""
