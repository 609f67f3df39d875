"""How long a run tries for a lock that somebody else holds. Pure, on a clock that it is given."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

_FIRST: Final = 0.5  # seconds
_FIRST_QUEUE: Final = 0.1  # seconds
_LONGEST: Final = 15.0  # seconds
LOCK_NOT_AVAILABLE: Final = "55P03"
QUERY_CANCELED: Final = "57014"  # by statement_timeout, too
_DEADLOCK_DETECTED: Final = "40P01"


@dataclass(slots=True)
class Patience:
    """How long to queue for a lock, and to pause between the tries, until the time is over.

    Whoever comes after a statement that queues has to wait behind it. So the first try queues
    for a moment only, to see who is there, and later ones for longer once those are gone.

    ``deadline`` is in seconds from the first try on; ``clock`` gives seconds, ``chance`` a number
    from 0 up to 1. ``queue`` is the time-out of the coming try.
    """

    deadline: float
    clock: Callable[[], float]
    chance: Callable[[], float]
    pauses: int = 0
    queue: float = _FIRST_QUEUE
    started: float = field(init=False)

    @classmethod
    def of(cls, deadline: float) -> Patience:
        """Begin to be patient, by the system's clock and by chance."""
        return cls(deadline, time.monotonic, _chance)

    def __post_init__(self) -> None:
        self.started = self.clock()

    @property
    def left(self) -> float:
        """The seconds that are left, never below 0."""
        return max(0.0, self.started + self.deadline - self.clock())

    def harder(self) -> None:
        """Queue for twice as long: who stood in the way last time is gone."""
        self.queue *= 2

    def pause(self, *, known: bool = False) -> float | None:
        """Return the seconds to wait before another try, or ``None`` when the time is over.

        Each pause is up to twice as long as the last. At least half of the step is waited, so
        that what is blocked gets through meanwhile; the rest is chance, so that two runs do not
        meet again and again. Where it is ``known`` who stands in the way, their end will be seen,
        and the pause is the longest.
        """
        if self.left <= 0:
            return None
        step = _FIRST * 2.0 ** min(self.pauses, 16)
        self.pauses += 1
        if known:
            return min(self.left, _LONGEST)
        return min(self.left, min(step, _LONGEST) * (0.5 + 0.5 * self.chance()))


def _chance() -> float:
    return random.random()  # noqa: S311 - spreads tries


def sqlstate(error: BaseException | None) -> str:
    """Return the PostgreSQL error code in an exception or in what caused it, else "".

    psycopg and asyncpg call it ``sqlstate``, psycopg2 ``pgcode``; SQLAlchemy keeps their error in
    ``orig``.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        origin = getattr(error, "orig", None) or error
        code = getattr(origin, "sqlstate", None) or getattr(origin, "pgcode", None)
        if code:
            return str(code)
        error = error.__cause__ or error.__context__
    return ""


def is_about_a_lock(error: BaseException) -> bool:
    """Tell whether somebody else's lock is all that stood in the way."""
    return sqlstate(error) in {LOCK_NOT_AVAILABLE, _DEADLOCK_DETECTED}
