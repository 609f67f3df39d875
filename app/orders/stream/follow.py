"""The life of one stream: what the client has missed, then what happens, then why it ends."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from orders.core.access import Principal
from orders.core.database import Sessions
from orders.core.event_cursor import EventCursor
from orders.core.rooms import Room
from orders.repositories import events
from orders.services.events import as_json, between, come_so_far
from orders.stream.consumer import Consumer
from orders.stream.hub import Hub
from orders.stream.message import SLOW, Kind, Message
from orders.stream.telling import Client, Telling, say_in_time

MUCH: Final = 200
"""Events missed: while fewer are told, those that happen are kept waiting."""
MARK_EVERY: Final = 500
"""Events missed, after which a client is told a later id: a break does not cost it all of them."""


async def follow(
    hub: Hub, principal: Principal, room: Room, cursor: EventCursor | None, client: Client
) -> None:
    """Tell a client everything in order until one side ends it.

    It waits in one place only, for the client to go: what there is to tell comes by short tasks.

    Args:
        hub: tells what happens.
        principal: who the client is.
        room: what they listen to.
        cursor: where the client has stopped before.
        client: whom to tell.

    Raises:
        TooManyError: the user has as many streams as one may have.
        BusyError: the process has.
        SQLAlchemyError, OSError: what was missed cannot be read, or the client has gone.
    """
    consumer = hub.join(principal, room)  # first, so that nothing falls in between
    telling = None
    try:
        telling = Telling(consumer, client, await _catch_up(hub.sessions, consumer, cursor, client))
        with suppress(TimeoutError):
            # The way to be called off from an await that costs no task.
            async with asyncio.timeout(None) as telling.stay:
                consumer.wake_by(telling.begin)
                consumer.close(await client.until_gone())
                await asyncio.Event().wait()  # for the last words, after which it is called off
        telling.check()
    finally:
        hub.leave(consumer)
        if telling:
            telling.stop()


async def _catch_up(
    sessions: Sessions, consumer: Consumer, cursor: EventCursor | None, client: Client
) -> EventCursor:
    """Tell what was missed; return until when that was."""
    now = await _now(sessions)
    try:
        if cursor and cursor.can_be_resumed(now):
            now = await _tell_missed(sessions, consumer, cursor, now, client)
        elif cursor:
            await say_in_time(client, Message(Kind.RESET, str(now)))
        if not consumer.end:
            await say_in_time(client, Message(Kind.READY, str(now)))
    except TimeoutError:
        consumer.close(SLOW)
    return now


async def _tell_missed(
    sessions: Sessions, consumer: Consumer, since: EventCursor, until: EventCursor, client: Client
) -> EventCursor:
    """Tell it in rounds, each of what has happened in the one before, until there was little.

    So a client that has missed much holds no queue full of what happens meanwhile.
    """
    while True:
        await _tell_between(sessions, consumer, since, until, client)
        if consumer.end or not consumer.behind:
            return until
        consumer.listen()  # before the look, so that nothing falls in between
        since, until = until, await _now(sessions)


async def _tell_between(
    sessions: Sessions, consumer: Consumer, since: EventCursor, until: EventCursor, client: Client
) -> None:
    told = 0
    async for event in between(sessions, since, until, consumer.room):
        if consumer.end:
            return
        told += 1
        if told == MUCH:
            consumer.fall_behind()
        if told % MARK_EVERY == 0:
            since = await come_so_far(sessions, since, until, consumer.room, last=event.id)
        await say_in_time(client, Message(Kind.EVENT, str(since), as_json(event)))


async def _now(sessions: Sessions) -> EventCursor:
    async with sessions() as session:
        return await events.now(session)
