"""A file that somebody has uploaded; its content is in a storage, under the file's id."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    Text,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from orders.models.base import Base


class File(Base):
    """What is known of a file.

    The row is there before the content and goes after it, so whatever the storage holds can be
    found here, however the process that put it there has ended.
    """

    __tablename__ = "files"
    __table_args__ = (
        CheckConstraint("state IN ('arriving', 'stored', 'leaving')", name="state_known"),
        CheckConstraint("state <> 'stored' OR sha256 IS NOT NULL", name="stored_is_whole"),
        Index(None, "user_id", "created_at", "id"),
        Index(
            "ix_files_to_clear",
            "created_at",
            postgresql_where=text("state <> 'stored' OR user_id IS NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    """Null once the user is deleted: the content has to go, too."""
    state: Mapped[str] = mapped_column(Text, server_default="arriving")
    name: Mapped[str] = mapped_column(Text, server_default="")
    """To show and to download by; no path is ever made of it."""
    media_type: Mapped[str] = mapped_column(Text, server_default="")
    """As the content says."""
    size: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """In bytes."""
    sha256: Mapped[bytes | None]
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
