"""SQL that throws away what has expired, a bounded number of rows at a time."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Delete, delete, func, inspect, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from orders.models import Base


def delete_expired(table: type[Base], most: int) -> Delete:
    """Return what deletes rows whose ``expires_at`` has passed, at most so many.

    Rows that somebody works with at this moment, another worker for one, are left for next time.
    """
    key = inspect(table).primary_key
    expired = (
        select(*key)
        .where(table.__table__.c.expires_at <= func.now())
        .limit(most)
        .with_for_update(skip_locked=True)
    )
    query = delete(table).where(tuple_(*key).in_(expired))
    return query.execution_options(synchronize_session=False)


async def prune(session: AsyncSession, table: type[Base], most: int) -> int:
    """Delete them; return how many."""
    result: Any = await session.execute(delete_expired(table, most))
    return int(result.rowcount)
