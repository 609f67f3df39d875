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
    payload = state.model_dump(mode="json")
    event = OrderEvent(order_id=order.id, user_id=order.user_id, kind=kind, payload=payload)
    await events.add(session, event)


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


def as_json(event: OrderEvent) -> str:
    """Return an event as all clients are told it."""
    return OrderEventRead.model_validate(event).model_dump_json()
