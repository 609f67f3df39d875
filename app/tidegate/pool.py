"""How full the database pool is: plain numbers, read from any thread at any time."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import AsyncAdaptedQueuePool


@dataclass(frozen=True, slots=True)
class PoolState:
    """One moment of a pool; the numbers count connections, and tasks that want one."""

    size: float
    """The most connections at once, ``pool_size`` and ``max_overflow``; infinite without a limit.
    """

    in_use: int
    """Connections that a task holds, or that are being opened for one."""

    waiting: int
    """Tasks that wait for a connection."""

    @property
    def exhausted(self) -> bool:
        """Whether the next task that asks must wait."""
        return self.in_use >= self.size


def read_pool(engine: AsyncEngine) -> PoolState | None:
    """Read the engine's pool without touching it; ``None`` for a pool that limits nothing."""
    pool = engine.pool
    if not isinstance(pool, AsyncAdaptedQueuePool):
        return None
    try:
        limited = pool._max_overflow >= 0
        size = pool.size() + pool._max_overflow if limited else math.inf
        # Not yet there before the first connection: asking the pool would make it, in this thread.
        queue = vars(pool._pool).get("_queue")
        if queue is None:
            return PoolState(size, in_use=0, waiting=0)
        # SQLAlchemy has no public word for who waits. Only the length: another thread may not walk.
        return PoolState(size, pool.checkedout(), waiting=len(queue._getters))
    except AttributeError:  # the inside of another release: rather no number than a wrong one
        return None
