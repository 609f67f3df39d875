"""When a task that has failed is tried again: pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Retry:
    """Doubling pauses, up to a longest one."""

    first: timedelta
    longest: timedelta
    attempts: int | None
    """So many, and then it is dead; ``None``: never."""

    def may_start(self, attempt: int) -> bool:
        """Whether a task may begin its ``attempt``: the first is 1.

        Those count as well that ended with their worker: a task that kills workers is to end.
        """
        return self.attempts is None or attempt <= self.attempts

    def pause(self, attempt: int, chance: float) -> timedelta:
        """Return how long to wait after an attempt.

        Args:
            attempt: that has failed; the first is 1.
            chance: from 0 to 1, drawn: tasks that failed together come back apart, after half of
                the pause to all of it.
        """
        doublings = min(attempt - 1, 30)  # beyond, a timedelta has no room
        whole = min(self.first * (1 << doublings), self.longest)
        return whole * (0.5 + chance / 2)
