"""The events of orders: written with what they tell of, and read by who follows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.database import Sessions
from orders.core.event_cursor import EventCursor
from orders.core.rooms import Room
from orders.models import Order, OrderEvent
from orders.repositories import events
from orders.schemas.event import OrderEventRead, OrderState


class EventKind(StrEnum):
    """What happens to orders."""

    PLACED = "order.placed"
    MOVED = "order.moved"
    """It is in another state: the payload has it."""


async def record(session: AsyncSession, order: Order, kind: EventKind) -> None:
    """Tell what has happened to an order, and how it stands now, if the transaction commits."""
    state = OrderState.model_validate(order)
    await events.add(session, order.id, order.user_id, kind, state.model_dump_json())


async def between(
    sessions: Sessions, since: EventCursor, until: EventCursor, room: Room
) -> AsyncIterator[OrderEvent]:
    """Read what one cursor sees and the other does not. No connection is held between pages."""
    last = 0
    while True:
        async with sessions() as session:
            page = await events.page(session, since, until, room, after=last)
        for event in page:
            yield event
        if len(page) < events.PAGE:
            return
        last = page[-1].id


async def come_so_far(
    sessions: Sessions, since: EventCursor, until: EventCursor, room: Room, *, last: int
) -> EventCursor:
    """Return where a reader stands who has read ``between`` two cursors as far as an id.

    It sees nothing that is still to be read; what is told of a transaction that has more to tell
    it does not see yet, nor of any later one.
    """
    async with sessions() as session:
        unread = await events.first_transaction(session, since, until, room, after=last)
    return until if unread is None else since.having_read_before(unread, until)


def as_json(event: OrderEvent) -> str:
    """Return an event as all clients are told it."""
    return OrderEventRead.model_validate(event).model_dump_json()
