"""Requests that count once, however often they are sent."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import DateTime, ForeignKey, Text
from sqlalchemy.orm import Mapped, mapped_column

from orders.models.base import Base


class IdempotencyKey(Base):
    """A key that a client chose for a request, and what was answered."""

    __tablename__ = "idempotency_keys"

    user_id: Mapped[UUID] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    key: Mapped[str] = mapped_column(Text, primary_key=True)
    fingerprint: Mapped[bytes]
    """A hash of what was asked."""
    answer: Mapped[str | None] = mapped_column(Text)
    """Null only inside the transaction that makes it."""
    is_final: Mapped[bool] = mapped_column(server_default="true")
    """Whether it is the last word: else what it began goes on, outside of that transaction."""
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), index=True)
