"""One client of the stream, and the bounded queue before it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
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


Waiting = tuple[Told | None, str]
"""An event, with the id to come back with; a heartbeat is no event."""


class Consumer:
    """What a client has still to be told. Slots, and neither task nor timer: there are thousands.

    Args:
        principal: who it is.
        room: what they listen to.
        now: the event loop's time.
    """

    __slots__ = ("_queue", "_wake", "behind", "end", "joined", "principal", "room", "told")

    def __init__(self, principal: Principal, room: Room, now: float) -> None:
        self.principal = principal
        self.room = room
        self.joined = now
        self.told = now
        """When something was last told to the client."""
        self.behind = False
        """Has missed so much that nothing is kept waiting meanwhile: it will be read as well."""
        self.end: End | None = None
        """Why the stream ends; the first reason stays."""
        self._queue: deque[Waiting] | None = None  # none while idle: a deque has 600 bytes
        self._wake: Callable[[], None] | None = None

    def wake_by(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` whenever there is something to tell, at once if there is already."""
        self._wake = wake
        if self._queue or self.end:
            wake()

    def fall_behind(self) -> None:
        """Let nothing wait until ``listen``; who calls this reads then what has happened."""
        self.behind = True
        self._queue = None

    def listen(self) -> None:
        """Let what happens from here on wait for the client, as it does from the beginning."""
        self.behind = False

    def put(self, told: Told, last_event_id: str) -> None:
        """Let an event wait for the client; one that has too many waiting is ended."""
        if self._queue and len(self._queue) >= LONGEST_QUEUE:
            self.close(SLOW)
        else:
            self._add((told, last_event_id))

    def ping(self, now: float) -> None:
        """Let a heartbeat wait, unless something else does."""
        if not self._queue:
            self.told = now
            self._add((None, ""))

    def close(self, end: End) -> None:
        """End the stream; what waits is dropped, and comes again after a reconnect."""
        self.end = self.end or end
        self._queue = None
        if self._wake:
            self._wake()

    def take(self) -> Waiting | None:
        """Return what waits longest; ``None`` if nothing does."""
        if not self._queue:
            return None
        first = self._queue.popleft()
        if not self._queue:
            self._queue = None
        return first

    def _add(self, waiting: Waiting) -> None:
        if self.end or self.behind:
            return
        if self._queue is None:
            self._queue = deque()
        self._queue.append(waiting)
        if self._wake:
            self._wake()
