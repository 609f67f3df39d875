"""One client of the stream, and the bounded queue before it."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final

from orders.core.access import Principal
from orders.core.rooms import Room
from orders.stream.message import SLOW, End

LONGEST_QUEUE: Final = 256
"""Events that may wait for one client: about 100 kB, which all its neighbours share."""


@dataclass(frozen=True, slots=True)
class Told:
    """An event as it is told to all; made once for all who hear it."""

    transaction: int
    json: str


class Consumer:
    """What a client has still to be told. Slots and one future: there may be thousands."""

    __slots__ = ("_queue", "_waiting", "end", "principal", "room")

    def __init__(self, principal: Principal, room: Room) -> None:
        self.principal = principal
        self.room = room
        self.end: End | None = None
        """Why the stream ends; the first reason stays."""
        self._queue: deque[tuple[Told, str]] | None = None  # none while idle: a deque has 600 bytes
        self._waiting: asyncio.Future[None] | None = None

    def put(self, told: Told, last_event_id: str) -> None:
        """Let an event wait for the client; one that has too many waiting is ended."""
        if self.end:
            return
        if self._queue is None:
            self._queue = deque()
        if len(self._queue) >= LONGEST_QUEUE:
            self.close(SLOW)
            return
        self._queue.append((told, last_event_id))
        self._wake()

    def close(self, end: End) -> None:
        """End the stream; what waits is dropped, and comes again after a reconnect."""
        self.end = self.end or end
        self._queue = None
        self._wake()

    async def next(self, patience: float) -> tuple[Told, str] | None:
        """Wait for the next event; ``None`` if there was none in so many seconds, or at the end."""
        if not self._queue and not self.end:
            loop = asyncio.get_running_loop()
            self._waiting = loop.create_future()
            timer = loop.call_later(patience, self._wake)
            try:
                await self._waiting
            finally:
                timer.cancel()
                self._waiting = None
        if not self._queue:
            return None
        first = self._queue.popleft()
        if not self._queue:
            self._queue = None
        return first

    def _wake(self) -> None:
        if self._waiting and not self._waiting.done():
            self._waiting.set_result(None)
