"""What nobody pays for is for sale again, after a while."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.database import Sessions
from orders.core.order_states import OrderStatus
from orders.models import Order, OrderEvent
from orders.tasks.housekeeping import cancel_unpaid
from tests.orders.conftest import Live
from tests.orders.factories import make_order, make_product, make_user

HOUR = timedelta(hours=1)
OLD = datetime.now(UTC) - 2 * HOUR


async def statuses(session: AsyncSession) -> list[str]:
    found = await session.execute(select(Order.status).order_by(Order.created_at))
    return [status for (status,) in found]


async def test_orders_that_nobody_pays_for_in_time_give_back_what_they_hold(
    sessions: Sessions, session: AsyncSession
) -> None:
    ann, tea = await make_user(session), await make_product(session, stock=0)
    young = await make_order(session, ann, tea)
    for minutes, status in enumerate(OrderStatus, start=1):
        placed = OLD - timedelta(minutes=minutes)
        await make_order(session, ann, tea, status=status, created_at=placed)
    await cancel_unpaid(sessions, HOUR)
    untouched = [each for each in OrderStatus if each not in {"pending", "payment_failed"}]
    assert sorted(await statuses(session)) == sorted(
        ["cancelled", "cancelled", "pending", *untouched]
    )
    await session.refresh(young)
    assert young.status == "pending"
    await session.refresh(tea)
    assert tea.stock == 2
    told = (await session.scalars(select(OrderEvent.payload))).all()
    assert [payload["status"] for payload in told] == ["cancelled", "cancelled"]


async def test_one_that_is_being_paid_for_at_this_moment_is_left(live: Live) -> None:
    async with live.sessions() as session:
        ann, tea = await make_user(session), await make_product(session)
        order = await make_order(session, ann, tea, created_at=OLD)
        await session.execute(select(Order.id).where(Order.id == order.id).with_for_update())
        async with asyncio.timeout(10):  # it does not wait
            await cancel_unpaid(live.sessions, HOUR)
        assert await statuses(session) == ["pending"]
        await session.rollback()
        await cancel_unpaid(live.sessions, HOUR)
        assert await statuses(session) == ["cancelled"]
