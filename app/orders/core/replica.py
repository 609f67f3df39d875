"""Reads from a replica of the database, and from the primary while it is away."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.database import Sessions
from orders.core.errors import is_away

log = logging.getLogger(__name__)

T = TypeVar("T")

_REST: Final = 60.0  # seconds, in which nobody waits for one that did not answer


class Replica:
    """A read replica: behind the primary by a moment, and never written to.

    Args:
        sessions: of the replica; ``None`` where there is none.
    """

    def __init__(self, sessions: Sessions | None, clock: Callable[[], float] = monotonic) -> None:
        self._sessions = sessions
        self._clock = clock
        self._resting_until = float("-inf")

    async def read(self, primary: Sessions, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
        """Do ``work`` there; on the primary, if the replica does not answer or there is none."""
        if self._sessions is not None and self._clock() >= self._resting_until:
            try:
                async with self._sessions() as session:
                    return await work(session)
            except Exception as error:
                if not (is_away(error) or isinstance(error, OSError)):  # a socket that is missing
                    raise
                self._resting_until = self._clock() + _REST
                log.warning(
                    "DATABASE_READ_URL does not answer (%s): the primary is read for %d s",
                    type(error).__name__,
                    _REST,
                )
        async with primary() as session:
            return await work(session)
