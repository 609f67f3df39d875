"""``/api/v1/events``: what happens to orders, as server-sent events."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Query

from orders.api.deps import Hub, Lookups, OrdersReader
from orders.api.event_stream import EventStream
from orders.core.event_cursor import EventCursor
from orders.core.openapi import problems
from orders.core.rooms import room_for
from orders.schemas.event import LastEventId
from orders.services import orders

router = APIRouter(prefix="/events", tags=["events"])

_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}
}


@router.get(
    "",
    status_code=HTTPStatus.OK,
    response_class=EventStream,
    responses=_STREAM | problems(403, 404, 429),
    summary="Follow what happens to orders",
)
async def follow_events(
    user: OrdersReader,
    lookups: Lookups,
    hub: Hub,
    order_id: Annotated[UUID | None, Query(description="Of this order only.")] = None,
    last_event_id: Annotated[
        LastEventId | None,
        Header(alias="Last-Event-ID", description="The last id you have seen: nothing is missed."),
    ] = None,
) -> EventStream:
    """Events of your orders, or, to an admin, of everybody's, as they happen.

    `event: event` carries an event as JSON. `event: reset`: the id is too old, read your orders
    again. `event: end`: the stream ends, and says why; connect again. An event may come twice
    after a break, with the same `id` in its data. WebSockets carry the same at `/api/v1/ws`.
    """
    await hub.admit(user)
    if order_id:
        await orders.get(lookups, user, order_id)
    cursor = EventCursor.parse(last_event_id) if last_event_id else None
    return EventStream(hub, user, room_for(user, order_id), cursor)
