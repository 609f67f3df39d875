"""What one client is told: what it has missed, then what happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from orders.core.event_cursor import EventCursor
from orders.repositories import events
from orders.services.events import as_json, between
from orders.stream.consumer import Consumer
from orders.stream.hub import Hub
from orders.stream.message import SLOW, Kind, Message

_SEND_PATIENCE: Final = 5.0  # seconds for one message to leave


async def follow(
    hub: Hub, consumer: Consumer, cursor: EventCursor | None
) -> AsyncIterator[Message]:
    """Say everything in order until the consumer's end.

    Args:
        hub: where the consumer has joined already, so that nothing falls in between.
        consumer: whom to tell.
        cursor: where the client has stopped before.
    """
    async with hub.sessions() as session:
        now = await events.now(session)
    if cursor and cursor.can_be_resumed(now):
        async for event in between(hub.sessions, cursor, now, consumer.room):
            if consumer.end:
                return
            yield Message(Kind.EVENT, str(cursor), as_json(event))
    elif cursor:
        yield Message(Kind.RESET, str(now))
    yield Message(Kind.READY, str(now))
    while not consumer.end:
        waiting = await consumer.next(hub.heartbeat)
        if waiting:
            told, last_event_id = waiting
            if not now.sees(told.transaction):
                yield Message(Kind.EVENT, last_event_id, told.json)
        elif not consumer.end:
            yield Message(Kind.PING)


async def send_all(
    messages: AsyncIterator[Message], consumer: Consumer, send: Callable[[Message], Awaitable[None]]
) -> None:
    """Send until the end; a client that takes nothing for long is let go."""
    async for message in messages:
        try:
            async with asyncio.timeout(_SEND_PATIENCE):
                await send(message)
        except TimeoutError:
            consumer.close(SLOW)
