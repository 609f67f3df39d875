"""Users, and what they sign in with."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, DateTime, ForeignKey, Index, Text, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from orders.models.base import Base


class User(Base):
    """A person, known by an e-mail address in lower case."""

    __tablename__ = "users"
    __table_args__ = (
        UniqueConstraint("email", info={"conflict": "another user has this e-mail address"}),
        # The few whose number must not come to nothing.
        Index("ix_users_admins", "id", postgresql_where=text("role = 'admin' AND is_active")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.gen_random_uuid())
    email: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text)
    password_hash: Mapped[str] = mapped_column(Text)
    role: Mapped[str] = mapped_column(Text, server_default="customer")
    is_active: Mapped[bool] = mapped_column(server_default="true")
    token_version: Mapped[int] = mapped_column(server_default="0")
    """One more, and every token that was issued before is refused."""
    last_login_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    """A note and no record: it is written after the answer, and may be lost."""
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class RefreshFamily(Base):
    """One login, and all refresh tokens that came from it: revoked together."""

    __tablename__ = "refresh_families"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.gen_random_uuid())
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    token_version: Mapped[int]
    """The user's at the login: a family of an older version is as good as revoked."""
    revoked_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class RefreshToken(Base):
    """One refresh token, good for one use; only its hash is known."""

    __tablename__ = "refresh_tokens"

    token_hash: Mapped[bytes] = mapped_column(primary_key=True)
    family_id: Mapped[UUID] = mapped_column(
        ForeignKey("refresh_families.id", ondelete="CASCADE"), index=True
    )
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), index=True)
    used_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class ApiKey(Base):
    """What a machine signs in with on behalf of a user; only its hash is known."""

    __tablename__ = "api_keys"
    __table_args__ = (UniqueConstraint("prefix"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.gen_random_uuid())
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(Text)
    prefix: Mapped[str] = mapped_column(Text)
    key_hash: Mapped[bytes]
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    expires_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    revoked_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
