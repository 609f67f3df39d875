"""What all replicas share beside the database: a Redis or Valkey, which may go away."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from tidegate import CheckFailedError

log = logging.getLogger(__name__)

T = TypeVar("T")

_PROTOCOL: Final = re.compile(r"^valkey(?=s?://)")
_PATIENCE: Final = 0.25  # seconds; what is asked here is to save time
_REST: Final = 1.0  # seconds, in which nobody waits for one that did not answer
_EVERY: Final = 60.0  # seconds between two complaints


def check_url(url: str) -> None:
    """Pass a URL that :class:`Shared` can connect to.

    Raises:
        ValueError: it is none; it is not quoted, since it may hold a password.
    """
    try:
        parse_url(_spelt_as_redis(url))
    except ValueError:
        raise ValueError("write it as redis://:password@host:6379/0 (rediss:// for TLS)") from None


def _spelt_as_redis(url: str) -> str:
    return _PROTOCOL.sub("redis", url)


class AwayError(Exception):
    """It does not answer: do without."""


class Shared:
    """A Redis or Valkey that the service can do without.

    Args:
        url: ``redis://``, ``rediss://`` (TLS) or ``unix://``; ``valkey`` may stand for ``redis``.
    """

    def __init__(self, url: str, clock: Callable[[], float] = monotonic) -> None:
        self.pool = BlockingConnectionPool.from_url(
            _spelt_as_redis(url),
            max_connections=20,
            timeout=_PATIENCE,
            socket_timeout=_PATIENCE,
            socket_connect_timeout=_PATIENCE,
            # Once more, at once: it may have closed a connection that nobody used for long.
            retry=Retry(NoBackoff(), 1),
        )
        self._redis = Redis.from_pool(self.pool)
        self._clock = clock
        self._resting_until = float("-inf")
        self._complained = float("-inf")

    async def ask(self, question: Callable[[Redis], Awaitable[T]]) -> T:
        """Ask it something.

        Raises:
            AwayError: it does not answer, or did not a moment ago.
        """
        if self._clock() < self._resting_until:
            raise AwayError
        try:
            return await question(self._redis)
        except (RedisError, OSError) as error:
            self._give_up(error)
            raise AwayError from None

    async def check(self) -> None:
        """Tell readiness whether it answers.

        Raises:
            CheckFailedError: it does not.
        """
        try:
            await self._redis.ping()
        except (RedisError, OSError) as error:
            self._give_up(error)
            raise CheckFailedError(
                f"CACHE_URL does not answer ({type(error).__name__}): each process counts and "
                "caches by itself"
            ) from None
        self._resting_until = float("-inf")

    async def close(self) -> None:
        """Close its connections."""
        await self._redis.aclose()

    def _give_up(self, error: Exception) -> None:
        now = self._clock()
        self._resting_until = now + _REST
        if now - self._complained >= _EVERY:
            self._complained = now
            # Without the text: it may quote the address with its password.
            log.warning(
                "CACHE_URL does not answer (%s): each process counts requests and caches by "
                "itself until it does",
                type(error).__name__,
            )
