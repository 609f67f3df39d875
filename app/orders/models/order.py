"""An order and its lines."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Text,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from orders.core.order_states import OrderStatus
from orders.models.base import Base, Cents, Version

UNPAID: Final = "status IN ('pending', 'payment_failed')"
_STATES = ", ".join(f"'{status}'" for status in OrderStatus)


class Order(Base):
    """What a customer ordered, at the prices of that moment."""

    __tablename__ = "orders"
    __table_args__ = (
        CheckConstraint(f"status IN ({_STATES})", name="status_known"),
        # The ways to walk the list: one customer's orders, and all of them.
        Index(None, "user_id", "created_at", "id"),
        Index(None, "created_at", "id"),
        Index("ix_orders_unpaid", "created_at", postgresql_where=text(UNPAID)),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.gen_random_uuid())
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    """Whose it is; an order outlives its user, and only admins see it then."""
    status: Mapped[str] = mapped_column(Text, server_default="pending")
    total_cents: Mapped[Cents]
    version: Mapped[Version]
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    lines: Mapped[list[OrderLine]] = relationship(
        order_by="OrderLine.product_id", cascade="all, delete-orphan", lazy="raise"
    )


class OrderLine(Base):
    """One product of an order."""

    __tablename__ = "order_lines"
    __table_args__ = (
        CheckConstraint("quantity > 0", name="quantity_positive"),
        ForeignKeyConstraint(
            ["product_id"], ["products.id"], info={"conflict": "orders name this product"}
        ),
    )

    order_id: Mapped[UUID] = mapped_column(
        ForeignKey("orders.id", ondelete="CASCADE"), primary_key=True
    )
    product_id: Mapped[UUID] = mapped_column(primary_key=True, index=True)
    quantity: Mapped[int]
    unit_price_cents: Mapped[Cents]
