"""Telling a client what waits for it, by a task that is there only while something does."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final, Protocol

from orders.core.event_cursor import EventCursor
from orders.stream.consumer import Consumer
from orders.stream.message import GONE, PING, SLOW, End, Kind, Message

_SEND_PATIENCE: Final = 5.0  # seconds for one message to leave


class Client(Protocol):
    """The other end of a stream, by whichever protocol."""

    async def say(self, said: Message | End) -> None:
        """Send a message, or the last words; returns when it has left.

        Raises:
            OSError: the client has gone.
        """

    async def until_gone(self) -> End:
        """Wait until the client goes, or does what it must not; return why the stream ends."""


async def say_in_time(client: Client, said: Message | End) -> None:
    """Send something.

    Raises:
        TimeoutError: the client takes nothing.
        OSError: it has gone.
    """
    async with asyncio.timeout(_SEND_PATIENCE):
        await client.say(said)


class Telling:
    """Tells one consumer's client.

    Args:
        consumer: has what waits.
        client: whom to tell.
        seen: what was told before.
    """

    __slots__ = ("_client", "_consumer", "_failure", "_seen", "_task", "stay")

    def __init__(self, consumer: Consumer, client: Client, seen: EventCursor) -> None:
        self._consumer = consumer
        self._client = client
        self._seen = seen
        self._task: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None
        self.stay: asyncio.Timeout
        """Ends when the last words are said."""

    def begin(self) -> None:
        """Tell what waits, or the last words."""
        if self._task is None:
            self._task = asyncio.ensure_future(self._run())

    def check(self) -> None:
        """Raise what telling has failed of, if it was no fault of the client's."""
        if self._failure:
            raise self._failure

    def stop(self) -> None:
        """Tell nothing more."""
        if self._task:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            await self._tell()
        except Exception as error:
            self._failure = error
        if self._failure or self._consumer.end:
            self.stay.reschedule(0)  # and no task begins again
        else:
            self._task = None

    async def _tell(self) -> None:
        consumer, clock = self._consumer, asyncio.get_running_loop().time
        try:
            while waiting := consumer.take():
                told, last_event_id = waiting
                if told is None:
                    await say_in_time(self._client, PING)
                elif not self._seen.sees(told.transaction):
                    message = Message(Kind.EVENT, last_event_id, told.json)
                    await say_in_time(self._client, message)
                consumer.told = clock()
        except TimeoutError:
            consumer.close(SLOW)
        except OSError:
            consumer.close(GONE)
        if consumer.end and consumer.end is not GONE:
            with suppress(OSError):  # it takes nothing, or has gone
                await say_in_time(self._client, consumer.end)
