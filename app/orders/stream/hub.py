"""The one reader of events in a process, and all its consumers.

It is woken by notifications and by the clock, and reads what has committed since it looked last.
So a notification that is lost, or a listener that is away, makes events late and loses none.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
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
_LONGEST_TICK: Final = 1.0  # seconds that a heartbeat or the end of a lifetime may be late

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
            for each in (
                self._look_for_ever(),
                self._beat_for_ever(),
                self._listener.listen(),
                self._end_at(until_drain),
            )
        ]
        try:
            yield
        finally:
            self._end_all(RESTARTS)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def join(self, principal: Principal, room: Room) -> Consumer:
        """Let a client hear what is told in a room, until it leaves.

        Raises:
            TooManyError, BusyError: as ``admit``; many may have been admitted at once.
        """
        self._refuse_too_many(principal)
        consumer = Consumer(principal, room, asyncio.get_running_loop().time())
        if self._ending:
            consumer.close(self._ending)
        if not self._rooms:
            self._woken.set()  # what was not looked at while nobody was here
        self._rooms[room].add(consumer)
        self._of_user[principal.user_id] += 1
        _OPEN.inc()
        return consumer

    def leave(self, consumer: Consumer) -> None:
        """Tell it nothing more."""
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

    async def admit(self, principal: Principal) -> None:
        """Say whether one more stream can be opened, before anything is done for it.

        Raises:
            TooManyError: the user has as many as one may have.
            BusyError: the process has, or the database does not answer.
        """
        self._refuse_too_many(principal)
        with suppress(TimeoutError):
            async with asyncio.timeout(_START_PATIENCE):
                await self._started.wait()
        if not self._started.is_set():
            raise BusyError("events cannot be read now; try again soon")

    def _refuse_too_many(self, principal: Principal) -> None:
        if self._of_user[principal.user_id] >= self._settings.streams_per_user:
            raise TooManyError(
                f"you have {self._settings.streams_per_user} streams open; close one of them"
            )
        if self._of_user.total() >= self._settings.streams:
            raise BusyError("there are as many streams as this process can serve; try again soon")

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
                # Python 3.11's `wait_for` forgets that it was cancelled, if it was woken as well.
                async with asyncio.timeout(LOOK_EVERY):
                    await self._woken.wait()
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

    async def _beat_for_ever(self) -> None:
        # One clock for all: a timer for each would take more memory than all else of a consumer.
        loop = asyncio.get_running_loop()
        heartbeat, lifetime = self._settings.stream_heartbeat, self._settings.access_token_seconds
        while True:
            await asyncio.sleep(min(_LONGEST_TICK, heartbeat / 4))
            now = loop.time()
            for each in self._consumers():
                if now - each.joined >= lifetime:
                    each.close(TOO_OLD)
                elif now - each.told >= heartbeat:
                    each.ping(now)

    async def _end_at(self, until_drain: Callable[[], Awaitable[object]]) -> None:
        await until_drain()
        self._end_all(RESTARTS)

    def _end_all(self, end: End) -> None:
        self._ending = end
        for each in self._consumers():
            each.close(end)

    def _consumers(self) -> list[Consumer]:
        return [consumer for room in self._rooms.values() for consumer in room]

    def _hear(self, channel: str) -> None:
        self._access_changed |= channel == ACCESS_CHANGED
        if self._rooms:  # else there is nobody to tell, and the clock's looks are enough
            self._woken.set()
