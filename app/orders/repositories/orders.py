"""SQL for orders."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from orders.models import Order


async def add(session: AsyncSession, order: Order) -> None:
    """Insert an order with its lines; its id, status and time come back with it."""
    session.add(order)
    await session.flush()
    await session.refresh(order, ["id", "status", "created_at"])


async def get(session: AsyncSession, order_id: UUID) -> Order | None:
    """Read one order with its lines."""
    query = select(Order).where(Order.id == order_id).options(selectinload(Order.lines))
    return (await session.scalars(query)).one_or_none()
