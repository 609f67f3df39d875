"""SQL for reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.order_states import OrderStatus
from orders.models import Order, OrderLine, Product, Report

_SOLD: Final = (OrderStatus.CONFIRMED, OrderStatus.SHIPPED, OrderStatus.DELIVERED)


@dataclass(frozen=True, slots=True)
class Sold:
    """What was sold of one product."""

    sku: str
    name: str
    orders: int
    quantity: int
    cents: int


async def add(session: AsyncSession, report: Report) -> None:
    """Insert a report; its id, status and time come back with it."""
    session.add(report)
    await session.flush()
    await session.refresh(report)


async def get(session: AsyncSession, report_id: UUID) -> Report | None:
    """Read a report without its content."""
    return await session.get(Report, report_id)


async def content(session: AsyncSession, report_id: UUID) -> bytes | None:
    """Read what a report says; ``None`` until it is done."""
    return await session.scalar(select(Report.content).where(Report.id == report_id))


async def sold(session: AsyncSession, since: date, until: date) -> Sequence[Sold]:
    """Sum up by product what was sold on the days, in UTC, both included."""
    begin = datetime.combine(since, time(), UTC)
    end = datetime.combine(until, time(), UTC) + timedelta(days=1)
    query = (
        select(
            Product.sku,
            Product.name,
            func.count(),
            func.sum(OrderLine.quantity),
            func.sum(OrderLine.quantity * OrderLine.unit_price_cents),
        )
        .join(OrderLine, OrderLine.product_id == Product.id)
        .join(Order, Order.id == OrderLine.order_id)
        .where(Order.status.in_(_SOLD), Order.created_at >= begin, Order.created_at < end)
        .group_by(Product.id)
        .order_by(Product.sku)
    )
    rows = (await session.execute(query)).all()
    return [
        Sold(sku, name, count, int(pieces), int(cents)) for sku, name, count, pieces, cents in rows
    ]


async def finish(session: AsyncSession, report_id: UUID, made: bytes) -> None:
    """Store what the report says, unless it was done before."""
    await session.execute(
        update(Report)
        .where(Report.id == report_id, Report.status != "done")
        .values(status="done", content=made, finished_at=func.now())
        .execution_options(synchronize_session=False)
    )


async def fail(session: AsyncSession, report_id: UUID) -> None:
    """Say of a report that nobody waits for its worker any more."""
    await session.execute(
        update(Report)
        .where(Report.id == report_id, Report.status == "waiting")
        .values(status="failed", finished_at=func.now())
        .execution_options(synchronize_session=False)
    )
