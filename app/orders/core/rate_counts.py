"""Counts requests: in one place for all replicas if there is one, else in this process.

By the library ``limits``, and by its sliding window: what was asked in the window before counts by
the share of it that is not over yet. So nobody gets two windows' worth at the turn of one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import ceil
from typing import Final

from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from orders.core.rates import Rate
from orders.core.shared import AwayError, Shared

_MOST_COUNTS: Final = 200_000  # a client has two: of this window, and of the one before
_OTHERS: Final = "others"
_SWEEP_EVERY: Final = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class Standing:
    """How a client stands after a request."""

    allowed: bool
    remaining: int
    reset: int
    """Seconds until it may ask more often again."""


class ProcessStorage(MemoryStorage):
    """The library's counts in this process, which are looked through once a minute for old ones.

    The library does so at every request: 6 ms for each, once there are ten thousand clients.
    """

    STORAGE_SCHEME = ["orders-process"]  # noqa: RUF012 - as the library has it

    def __init__(self) -> None:
        super().__init__()
        self._swept = time.monotonic()

    async def _MemoryStorage__schedule_expiry(self) -> None:  # noqa: N802 - the library's name
        now = time.monotonic()
        if now - self._swept >= _SWEEP_EVERY:
            self._swept = now
            await super()._MemoryStorage__schedule_expiry()  # type: ignore[misc]

    @property
    def is_full(self) -> bool:
        """Whether no more clients are told apart: a flood of addresses must not fill the memory."""
        return len(self.storage) >= _MOST_COUNTS


class RateCounts:
    """Counts requests.

    Args:
        shared: where all replicas count together; without it, or while it is away, each process
            counts alone.
    """

    def __init__(self, shared: Shared | None) -> None:
        self._shared = shared
        self._process = ProcessStorage()
        self._alone = SlidingWindowCounterRateLimiter(self._process)
        if shared is not None:
            storage = RedisStorage(
                "async+redis://",
                implementation="redispy",
                key_prefix="orders:rate",
                connection_pool=shared.pool,  # type: ignore[arg-type]  # as its docs have it
            )
            self._together = SlidingWindowCounterRateLimiter(storage)

    async def hit(self, policy: str, rate: Rate, who: str) -> Standing:
        """Count a request of somebody, and say how they stand."""
        if self._shared is not None:
            try:
                return await self._shared.ask(lambda _: _hit(self._together, policy, rate, who))
            except AwayError:
                pass
        if self._process.is_full and not await self._is_known(policy, rate, who):
            who = _OTHERS
        return await _hit(self._alone, policy, rate, who)

    async def _is_known(self, policy: str, rate: Rate, who: str) -> bool:
        key = rate.item.key_for(policy, who)
        before, _, now, _ = await self._process.get_sliding_window(key, rate.seconds)
        return bool(before or now)


async def _hit(
    limiter: SlidingWindowCounterRateLimiter, policy: str, rate: Rate, who: str
) -> Standing:
    allowed = await limiter.hit(rate.item, policy, who)
    window = await limiter.get_window_stats(rate.item, policy, who)
    return Standing(allowed, window.remaining, max(1, ceil(window.reset_time - time.time())))
