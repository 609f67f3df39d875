"""A cache that neither stampedes nor keeps what a write has made old.

- One load at a time: who asks for what is being loaded waits for that load.
- Early refresh: shortly before an entry is too old, somebody's request begins to load it anew and
  is answered from it as it is. The longer a load takes the earlier that begins, by chance, so that
  replicas do not begin together ("optimal probabilistic cache stampede prevention", Vattani,
  Chierichetti, Lowenstein, 2015).
- Topics: each entry belongs to one, and carries the mark that the topic had before the load began.
  A write gives the topic another mark. So what was loaded while a write was going on is never
  taken for what came after it.

Entries are bytes, the same in this process and in Redis. Where both are there only Redis is asked:
a second cache in each process would not hear of the others' writes.
"""

from __future__ import annotations

import asyncio
import math
import random
import struct
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol, cast
from uuid import uuid4

from redis.asyncio import Redis

from orders.core.shared import AwayError, Shared

Load = Callable[[], Awaitable[bytes]]

_HEAD: Final = struct.Struct("!16sdd")
_UNMARKED: Final = bytes(16)
_MOST_ENTRIES: Final = 1000


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that was loaded."""

    mark: bytes
    """Of its topic, before the load began."""
    until: float
    """When it is too old, in seconds since 1970."""
    cost: float
    """Seconds that the load took."""
    value: bytes

    def pack(self) -> bytes:
        """Return it as Redis keeps it."""
        return _HEAD.pack(self.mark, self.until, self.cost) + self.value

    @staticmethod
    def unpack(packed: bytes) -> Entry | None:
        """Read what :meth:`pack` wrote; ``None`` if it was somebody else."""
        if len(packed) < _HEAD.size:
            return None
        mark, until, cost = _HEAD.unpack_from(packed)
        return Entry(mark, until, cost, packed[_HEAD.size :])

    def is_due(self, now: float, luck: float) -> bool:
        """Tell whether to load it anew: surely at its end, and sooner the smaller ``luck`` is.

        Args:
            now: seconds since 1970.
            luck: at random, above 0 and at most 1.
        """
        return now - self.cost * math.log(luck) >= self.until


class _Store(Protocol):
    async def read(self, topic: str, key: str) -> tuple[bytes, Entry | None]: ...

    async def write(self, topic: str, key: str, entry: Entry, seconds: float) -> None: ...

    async def forget(self, topics: Collection[str], seconds: float) -> None: ...


class LocalStore:
    """Entries of this process: the newest 1,000."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], Entry] = {}
        self._marks: dict[str, bytes] = {}

    async def read(self, topic: str, key: str) -> tuple[bytes, Entry | None]:
        """Return the topic's mark, and the entry if there is one."""
        return self._marks.get(topic, _UNMARKED), self._entries.get((topic, key))

    async def write(self, topic: str, key: str, entry: Entry, seconds: float) -> None:
        """Keep an entry in place of the one before."""
        self._entries.pop((topic, key), None)
        self._entries[topic, key] = entry
        if len(self._entries) > _MOST_ENTRIES:
            del self._entries[next(iter(self._entries))]

    async def forget(self, topics: Collection[str], seconds: float) -> None:
        """Give the topics another mark."""
        self._marks.update({topic: uuid4().bytes for topic in topics})


class SharedStore:
    """Entries of all replicas."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def read(self, topic: str, key: str) -> tuple[bytes, Entry | None]:
        """Return the topic's mark, and the entry if there is one, by one round trip."""
        keys = [_mark(topic), _entry(topic, key)]
        mark, packed = cast(
            "list[bytes | None]", await self._shared.ask(lambda redis: redis.mget(keys))
        )
        return mark or _UNMARKED, Entry.unpack(packed) if packed else None

    async def write(self, topic: str, key: str, entry: Entry, seconds: float) -> None:
        """Keep an entry in place of the one before."""

        async def put(redis: Redis) -> None:
            await redis.set(_entry(topic, key), entry.pack(), px=math.ceil(seconds * 1000))

        await self._shared.ask(put)

    async def forget(self, topics: Collection[str], seconds: float) -> None:
        """Give the topics another mark."""

        async def put(redis: Redis) -> None:
            # Twice as long as any entry lives that has an older mark, or none.
            px = math.ceil(2000 * seconds)
            async with redis.pipeline(transaction=False) as pipeline:
                for topic in topics:
                    pipeline.set(_mark(topic), uuid4().bytes, px=px)
                await pipeline.execute()

        await self._shared.ask(put)


class Cache:
    """Keeps what was loaded for some seconds, or until a write makes it old.

    Args:
        seconds: how long, at most.
        shared: where all replicas keep it; while that is away, each process keeps its own.
    """

    def __init__(
        self, seconds: float, shared: Shared | None, clock: Callable[[], float] = time.time
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._local = LocalStore()
        self._shared = SharedStore(shared) if shared else None
        self._loads: dict[tuple[str, str, bytes], asyncio.Task[bytes]] = {}

    async def get(self, topic: str, key: str, load: Load) -> bytes:
        """Return what is kept under ``key``, loaded by ``load`` if need be.

        ``load`` runs in a task of its own: it must not use what belongs to the request, which may
        end before it does. What it raises is raised to all who wait for it, and not kept.
        """
        store, mark, entry = await self._read(topic, key)
        now = self._clock()
        if entry and entry.mark == mark and now < entry.until:
            if entry.is_due(now, 1 - random.random()):  # noqa: S311 - nobody gains by guessing it
                self._load(store, topic, key, mark, load)
            return entry.value
        # Shielded: who loses patience must not end it for the others.
        return await asyncio.shield(self._load(store, topic, key, mark, load))

    async def forget(self, topics: Collection[str]) -> None:
        """Let nobody be given what was loaded of these topics before; call it after the commit."""
        await self._local.forget(topics, self._seconds)
        if self._shared:
            with suppress(AwayError):  # then entries live out their seconds
                await self._shared.forget(topics, self._seconds)

    async def close(self) -> None:
        """End the loads that are going on."""
        loads = list(self._loads.values())
        for each in loads:
            each.cancel()
        await asyncio.gather(*loads, return_exceptions=True)

    async def _read(self, topic: str, key: str) -> tuple[_Store, bytes, Entry | None]:
        if self._shared:
            try:
                return self._shared, *await self._shared.read(topic, key)
            except AwayError:
                pass
        return self._local, *await self._local.read(topic, key)

    def _load(
        self, store: _Store, topic: str, key: str, mark: bytes, load: Load
    ) -> asyncio.Task[bytes]:
        """Return the load that is going on, or begin one. One from before a write is another."""
        flight = (topic, key, mark)
        task = self._loads.get(flight)
        if task is None:
            task = asyncio.create_task(self._load_and_keep(store, topic, key, mark, load))
            self._loads[flight] = task
            task.add_done_callback(lambda done: self._landed(flight, done))
        return task

    async def _load_and_keep(
        self, store: _Store, topic: str, key: str, mark: bytes, load: Load
    ) -> bytes:
        began = self._clock()
        value = await load()
        now = self._clock()
        entry = Entry(mark, now + self._seconds, max(now - began, 0.0), value)
        with suppress(AwayError):
            await store.write(topic, key, entry, self._seconds)
        return value

    def _landed(self, flight: tuple[str, str, bytes], task: asyncio.Task[bytes]) -> None:
        del self._loads[flight]
        if not task.cancelled():
            task.exception()  # whoever waited for it has it; of an early refresh nobody did


def _mark(topic: str) -> str:
    return f"orders:cache:{topic}:mark"


def _entry(topic: str, key: str) -> str:
    return f"orders:cache:{topic}:entry:{key}"
