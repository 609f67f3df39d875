"""A report that somebody has ordered."""

from __future__ import annotations

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, DateTime, ForeignKey, Text, func
from sqlalchemy.orm import Mapped, mapped_column

from orders.models.base import Base


class Report(Base):
    """What was sold from one day to another, as CSV."""

    __tablename__ = "reports"
    __table_args__ = (
        CheckConstraint("status IN ('waiting', 'done', 'failed')", name="status_known"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.gen_random_uuid())
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    since: Mapped[date]
    until: Mapped[date]
    """The last day that counts."""
    status: Mapped[str] = mapped_column(Text, server_default="waiting")
    content: Mapped[bytes | None] = mapped_column(deferred=True)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    finished_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
