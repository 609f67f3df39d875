"""The one reader of events in a process, and all its consumers.

It is woken by notifications and by the clock, and reads what has committed since it looked last.
So a notification that is lost, or a listener that is away, makes events late and loses none.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final
from uuid import UUID

from prometheus_client import Counter as CounterMetric
from prometheus_client import Gauge
from sqlalchemy.exc import SQLAlchemyError

from orders.core.access import Principal
from orders.core.database import Sessions
from orders.core.errors import BusyError, TooManyError
from orders.core.event_cursor import EventCursor
from orders.core.rooms import Room, rooms_of
from orders.core.settings import OrdersSettings
from orders.repositories import events
from orders.services import events as service
from orders.services.standing import still_allowed
from orders.stream.consumer import Consumer, Told
from orders.stream.listener import ACCESS_CHANGED, Listener
from orders.stream.message import NORMAL, RESTARTS, REVOKED, TOO_OLD, End

log = logging.getLogger(__name__)

LOOK_EVERY: Final = 2.0
"""Seconds without a notification: the longest that an event is late while nobody can listen, and a
client who was signed out stays."""
_LEAST_PAUSE: Final = 0.02  # seconds between two looks: many commits, one query
_START_PATIENCE: Final = 5.0

_OPEN: Final = Gauge("orders_streams", "Clients of the live stream, WebSockets and SSE.")
_ENDED: Final = CounterMetric(
    "orders_streams_ended_total", "Streams that the server has ended, by close code.", ("code",)
)


class Hub:
    """Tells consumers what happens."""

    def __init__(self, settings: OrdersSettings, sessions: Sessions) -> None:
        self._settings = settings
        self.sessions = sessions
        self._listener = Listener(settings, self._hear)
        self.check = self._listener.check
        self.heartbeat = settings.stream_heartbeat
        self._rooms: defaultdict[Room, set[Consumer]] = defaultdict(set)
        self._of_user: Counter[UUID] = Counter()
        self._seen: EventCursor | None = None
        self._started = asyncio.Event()
        self._woken = asyncio.Event()
        self._access_changed = False
        self._ending: End | None = None

    @asynccontextmanager
    async def running(self, until_drain: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
        """Read and tell while the block runs; at the drain, end every stream."""
        tasks = [
            asyncio.ensure_future(each)
            for each in (self._look_for_ever(), self._listener.listen(), self._end_at(until_drain))
        ]
        try:
            yield
        finally:
            self._end_all(RESTARTS)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    @contextmanager
    def joined(self, principal: Principal, room: Room) -> Iterator[Consumer]:
        """Let a client hear what is told in a room."""
        consumer = Consumer(principal, room)
        if self._ending:
            consumer.close(self._ending)
        self._rooms[room].add(consumer)
        self._of_user[principal.user_id] += 1
        _OPEN.inc()
        lifetime = self._settings.access_token_seconds
        timer = asyncio.get_running_loop().call_later(lifetime, consumer.close, TOO_OLD)
        try:
            yield consumer
        finally:
            timer.cancel()
            self._leave(consumer)

    async def admit(self, principal: Principal) -> None:
        """Say whether one more stream can be opened, before it is.

        Raises:
            TooManyError: the user has as many as one may have.
            BusyError: the process has, or the database does not answer.
        """
        if self._of_user[principal.user_id] >= self._settings.streams_per_user:
            raise TooManyError(
                f"you have {self._settings.streams_per_user} streams open; close one of them"
            )
        if self._of_user.total() >= self._settings.streams:
            raise BusyError("there are as many streams as this process can serve; try again soon")
        with suppress(TimeoutError):
            await asyncio.wait_for(self._started.wait(), _START_PATIENCE)
        if not self._started.is_set():
            raise BusyError("events cannot be read now; try again soon")

    async def _look_for_ever(self) -> None:
        failing = False
        while True:
            access_changed, self._access_changed = self._access_changed, False
            self._woken.clear()
            try:
                await self._look()
                if access_changed:
                    await self._check_access()
                failing = False
            except (SQLAlchemyError, OSError) as error:
                self._access_changed = access_changed
                if not failing:
                    log.warning("events cannot be read (%s); trying again", type(error).__name__)
                failing = True
            try:
                await asyncio.wait_for(self._woken.wait(), LOOK_EVERY)
            except TimeoutError:
                self._access_changed = True
            await asyncio.sleep(_LEAST_PAUSE)

    async def _look(self) -> None:
        async with self.sessions() as session:
            until = await events.now(session)
        since = self._seen
        # Who joins from here on looks for themselves first, and later than this.
        if since is not None and self._rooms:
            await self._tell(since, until)
        self._seen = until
        self._started.set()

    async def _tell(self, since: EventCursor, until: EventCursor) -> None:
        """Tell all that has happened; what fails half-way is told again by the next look."""
        # Only the last event a client hears of a look brings it forward: after a break in between
        # it hears the others again, and misses none.
        last: dict[Consumer, Told] = {}
        async for event in service.between(self.sessions, since, until, Room()):
            told = Told(event.transaction, service.as_json(event))
            for room in rooms_of(event.order_id, event.user_id):
                for consumer in self._rooms.get(room, ()):
                    if before := last.get(consumer):
                        consumer.put(before, str(since))
                    last[consumer] = told
        cursor = str(until)
        for consumer, told in last.items():
            consumer.put(told, cursor)

    async def _check_access(self) -> None:
        consumers = self._consumers()
        if not consumers:
            return
        async with self.sessions() as session:
            allowed = await still_allowed(session, {each.principal for each in consumers})
        for each in consumers:
            if each.principal not in allowed:
                each.close(REVOKED)

    async def _end_at(self, until_drain: Callable[[], Awaitable[object]]) -> None:
        await until_drain()
        self._end_all(RESTARTS)

    def _end_all(self, end: End) -> None:
        self._ending = end
        for each in self._consumers():
            each.close(end)

    def _consumers(self) -> list[Consumer]:
        return [consumer for room in self._rooms.values() for consumer in room]

    def _leave(self, consumer: Consumer) -> None:
        self._rooms[consumer.room].discard(consumer)
        if not self._rooms[consumer.room]:
            del self._rooms[consumer.room]
        user = consumer.principal.user_id
        self._of_user[user] -= 1
        if not self._of_user[user]:
            del self._of_user[user]
        _OPEN.dec()
        if consumer.end and consumer.end.code != NORMAL:
            _ENDED.labels(str(consumer.end.code)).inc()

    def _hear(self, channel: str) -> None:
        self._access_changed |= channel == ACCESS_CHANGED
        self._woken.set()
