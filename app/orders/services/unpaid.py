"""The rule about orders that nobody pays for: what they hold is for sale again after a while."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.order_states import Actor, OrderStatus
from orders.repositories import unpaid
from orders.services.order_changes import advance


async def cancel_one(session: AsyncSession, age: timedelta) -> bool:
    """Cancel the oldest of those that were placed longer ago, and tell whether there was one.

    Part of the caller's transaction block, which is to hold no other: each locks its products in
    the order of their ids, and two of them together would not.
    """
    order = await unpaid.lock_oldest(session, age)
    if order is None:
        return False
    await advance(session, order, OrderStatus.CANCELLED, Actor.CLOCK)
    return True
