"""What has happened to orders, kept for a while, and the tickets that open its stream."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, ForeignKey, Identity, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from orders.models.base import Base


class OrderEvent(Base):
    """One thing that has happened to an order, written in the transaction that made it happen."""

    __tablename__ = "order_events"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    """Given before the commit: of two events the later one may become visible first."""
    transaction: Mapped[int] = mapped_column(
        BigInteger, server_default=text("pg_current_xact_id()::text::bigint"), index=True
    )
    """Who wrote it; a snapshot tells whether that one had committed."""
    # No foreign keys: what is told of an order is kept for a while, and checked by nobody.
    order_id: Mapped[UUID]
    user_id: Mapped[UUID | None]
    kind: Mapped[str] = mapped_column(Text)
    payload: Mapped[dict[str, Any]] = mapped_column(JSONB)
    at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now(), index=True
    )


class Ticket(Base):
    """Opens one stream, once, for the user who asked for it; only its hash is known."""

    __tablename__ = "tickets"

    ticket_hash: Mapped[bytes] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    token_version: Mapped[int]
    """The user's when they asked: a ticket of an older version is as good as used."""
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), index=True)
