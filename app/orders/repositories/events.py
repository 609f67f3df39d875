"""SQL for events."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, ColumnElement, any_, func, literal, or_, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.event_cursor import EventCursor
from orders.core.rooms import Room
from orders.models import OrderEvent

PAGE: Final = 200

# The clock's time and not the transaction's: a snapshot is taken by each statement.
_NOW: Final = text(
    "SELECT extract(epoch FROM clock_timestamp())::bigint, pg_current_snapshot()::text"
)
_ADD: Final = text("""
    INSERT INTO order_events (order_id, user_id, kind, payload)
    VALUES (:order_id, :user_id, :kind, CAST(:payload AS jsonb))
""")
_PRUNE: Final = text("""
    DELETE FROM order_events WHERE id IN (
        SELECT id FROM order_events WHERE at < now() - CAST(:age AS interval)
        ORDER BY at LIMIT 5000 FOR UPDATE SKIP LOCKED)
""")


async def add(
    session: AsyncSession, order_id: UUID, user_id: UUID | None, kind: str, payload: str
) -> None:
    """Insert an event; the payload is JSON."""
    values = {"order_id": order_id, "user_id": user_id, "kind": kind, "payload": payload}
    await session.execute(_ADD, values)


async def now(session: AsyncSession) -> EventCursor:
    """Return where a reader stands that has seen everything."""
    row = (await session.execute(_NOW)).one()
    return EventCursor.of_snapshot(row[0], row[1])


async def page(
    session: AsyncSession, since: EventCursor, until: EventCursor, room: Room, *, after: int
) -> Sequence[OrderEvent]:
    """Read what one cursor sees and the other does not, at most ``PAGE``, by ids after one."""
    query = select(OrderEvent).where(*_news(since, until, room, after))
    return (await session.scalars(query.order_by(OrderEvent.id).limit(PAGE))).all()


async def first_transaction(
    session: AsyncSession, since: EventCursor, until: EventCursor, room: Room, *, after: int
) -> int | None:
    """Return the lowest transaction that the pages after an id are of; ``None`` without any."""
    lowest = min(since.running, default=since.end)
    query = select(func.min(OrderEvent.transaction)).where(
        *_news(since, until, room, after),
        OrderEvent.transaction >= lowest,  # follows from the others, and begins the index there
    )
    return await session.scalar(query)


async def prune(session: AsyncSession, age: timedelta) -> int:
    """Delete what is older, at most 5000 rows; return how many."""
    result: Any = await session.execute(_PRUNE, {"age": age})
    return int(result.rowcount)


def _news(
    since: EventCursor, until: EventCursor, room: Room, after: int
) -> list[ColumnElement[bool]]:
    transaction = OrderEvent.transaction
    conditions = [
        or_(transaction == any_(_array(since.running)), transaction >= since.end),
        # Restored from elsewhere, rows may be of transactions that are still to come.
        transaction < until.end,
        ~(transaction == any_(_array(until.running))),
        OrderEvent.id > after,
    ]
    if room.order_id:
        conditions.append(OrderEvent.order_id == room.order_id)
    if room.owner:
        conditions.append(OrderEvent.user_id == room.owner)
    return conditions


def _array(transactions: frozenset[int]) -> Any:  # noqa: ANN401 - SQLAlchemy's own
    return literal(sorted(transactions), ARRAY(BigInteger))
