"""SQL for products."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from orders.models import Product


async def add(session: AsyncSession, product: Product) -> None:
    """Insert a product; its id and time come back with it."""
    session.add(product)
    await session.flush()
    await session.refresh(product)


async def list_by_sku(session: AsyncSession, *, limit: int, offset: int) -> Sequence[Product]:
    """Read a page of the catalogue."""
    query = select(Product).order_by(Product.sku).limit(limit).offset(offset)
    return (await session.scalars(query)).all()


async def get(session: AsyncSession, product_id: UUID) -> Product | None:
    """Read one product."""
    return await session.get(Product, product_id)


async def take(session: AsyncSession, product_id: UUID, quantity: int) -> int | None:
    """Take from the stock; return the price in cents, or ``None`` where not enough is left.

    One statement: two orders at once cannot both take the last one.
    """
    query = (
        update(Product)
        .where(Product.id == product_id, Product.stock >= quantity)
        .values(stock=Product.stock - quantity)
        .returning(Product.price_cents)
    )
    return (await session.execute(query)).scalar_one_or_none()
