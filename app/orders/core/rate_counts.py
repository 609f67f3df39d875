"""Counts requests: in one place for all replicas if there is one, else in this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from redis.asyncio import Redis

from orders.core.rates import Rate, Standing
from orders.core.shared import AwayError, Shared

_MOST_CLIENTS: Final = 100_000
_OTHERS: Final = "others"


class LocalCounts:
    """Counts in this process: two lookups in a mapping, about a microsecond.

    At most 100,000 clients are told apart in a window; the rest share a count.
    """

    def __init__(self) -> None:
        self._windows: dict[str, tuple[int, dict[str, int]]] = {}

    def add(self, policy: str, who: str, window: int) -> int:
        """Count a request; return which of its window it is."""
        known, counts = self._windows.get(policy, (window, {}))
        if known != window or not counts:
            counts = {}
            self._windows[policy] = (window, counts)
        if who not in counts and len(counts) >= _MOST_CLIENTS:
            who = _OTHERS
        counted = counts[who] = counts.get(who, 0) + 1
        return counted


class RateCounts:
    """Counts requests.

    Args:
        shared: where all replicas count together; without it, or while it is away, each process
            counts alone.
    """

    def __init__(self, shared: Shared | None, clock: Callable[[], float] = time.time) -> None:
        self._shared = shared
        self._clock = clock
        self._local = LocalCounts()

    async def hit(self, policy: str, rate: Rate, who: str) -> Standing:
        """Count a request of somebody, and say how they stand."""
        now = self._clock()
        window = rate.window(now)
        if self._shared is not None:
            key = f"orders:rate:{policy}:{window}:{who}"
            try:
                counted = await self._shared.ask(lambda redis: _add(redis, key, rate.seconds))
                return rate.standing(counted, now)
            except AwayError:
                pass
        return rate.standing(self._local.add(policy, who, window), now)


async def _add(redis: Redis, key: str, seconds: int) -> int:
    # Both in one round trip. Twice as long as the window: the replicas' clocks differ.
    async with redis.pipeline(transaction=False) as pipeline:
        pipeline.incr(key)
        pipeline.expire(key, 2 * seconds)
        counted, _ = await pipeline.execute()
    return int(counted)
