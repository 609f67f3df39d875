"""A product of the catalogue."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, DateTime, Text, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from orders.models.base import Base, Cents, Version


class Product(Base):
    """What can be ordered: its price of now, and how many are left."""

    __tablename__ = "products"
    __table_args__ = (
        CheckConstraint("price_cents >= 0", name="price_not_negative"),
        CheckConstraint("stock >= 0", name="stock_not_negative"),
        UniqueConstraint("sku", info={"conflict": "another product has this sku"}),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.gen_random_uuid())
    sku: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text)
    price_cents: Mapped[Cents]
    stock: Mapped[int]
    version: Mapped[Version]
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
