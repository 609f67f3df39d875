"""SQL for payments."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from orders.models import Payment
from orders.outbound.payment_answers import Outcome, Verdict


async def add(session: AsyncSession, payment: Payment) -> None:
    """Insert a payment; its id and status come back with it."""
    session.add(payment)
    await session.flush()
    await session.refresh(payment)


async def get(session: AsyncSession, payment_id: UUID) -> Payment | None:
    """Read one payment, as it is stored now."""
    return await session.get(Payment, payment_id, populate_existing=True)


async def of_order(session: AsyncSession, order_id: UUID) -> Sequence[Payment]:
    """Read the payments of an order, the latest first."""
    query = select(Payment).where(Payment.order_id == order_id)
    latest = query.order_by(Payment.created_at.desc()).execution_options(populate_existing=True)
    return (await session.scalars(latest)).all()


async def void(session: AsyncSession, payment_id: UUID) -> None:
    """Write down that the provider has given back what it had authorised."""
    query = update(Payment).where(Payment.id == payment_id, Payment.voided_at.is_(None))
    await session.execute(
        query.values(voided_at=func.now()).execution_options(synchronize_session=False)
    )


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
