"""SQL for orders that nobody has paid for."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from orders.models import Order
from orders.models.order import UNPAID


async def lock_oldest(session: AsyncSession, age: timedelta) -> Order | None:
    """Read, with its lines, the oldest one that was placed longer ago, and let nobody change it.

    One that somebody works with at this moment is passed over.
    """
    query = (
        select(Order)
        # To the letter, or PostgreSQL does not know that the index is about these.
        .where(text(UNPAID), Order.created_at < func.now() - age)
        .order_by(Order.created_at)
        .limit(1)
        .options(selectinload(Order.lines))
        .with_for_update(key_share=True, skip_locked=True)
    )
    return (await session.scalars(query)).one_or_none()
