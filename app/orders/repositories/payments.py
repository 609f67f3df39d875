"""SQL for payments."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import func, update
from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.order_states import OrderStatus
from orders.models import Order, Payment
from orders.outbound.payment_answers import Outcome, Verdict


async def add(session: AsyncSession, payment: Payment) -> None:
    """Insert a payment; its id and status come back with it."""
    session.add(payment)
    await session.flush()
    await session.refresh(payment)


async def get(session: AsyncSession, payment_id: UUID) -> Payment | None:
    """Read one payment, as it is stored now."""
    return await session.get(Payment, payment_id, populate_existing=True)


async def settle(session: AsyncSession, payment_id: UUID, outcome: Outcome) -> bool:
    """Write down what the provider has answered, once; return whether this was the first."""
    query = (
        update(Payment)
        .where(Payment.id == payment_id, Payment.status == Verdict.UNSURE)
        .values(
            status=outcome.verdict,
            reference=outcome.reference,
            reason=outcome.reason,
            settled_at=func.now(),
        )
        .returning(Payment.id)
        .execution_options(synchronize_session=False)
    )
    return (await session.scalars(query)).one_or_none() is not None


async def move_order(
    session: AsyncSession, order_id: UUID, now: OrderStatus, to: OrderStatus
) -> bool:
    """Move an order on if it stands where it is thought to; return whether it did."""
    query = (
        update(Order)
        .where(Order.id == order_id, Order.status == now)
        .values(status=to, version=Order.version + 1)
        .returning(Order.id)
        .execution_options(synchronize_session=False)
    )
    return (await session.scalars(query)).one_or_none() is not None
