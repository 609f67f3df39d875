"""How big the next batch is, how long to rest after it, when to try a failed one again. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FIRST_ROWS: Final = 100
"""Rows of the first batch: what a row costs is not known yet."""
_GROWTH: Final = 2.0
_LONGEST_REST: Final = 10.0  # seconds


@dataclass(frozen=True, slots=True)
class Pace:
    """How hard a backfill may work. Times are in seconds.

    ``batch_seconds`` is what a batch should take (its rows stay locked that long), ``batch_rows``
    the most rows it may walk over, ``duty`` the share of the time in which a batch runs.
    A batch waits ``lock_timeout`` for a row that somebody else has locked, and runs
    ``statement_timeout`` at most; it is tried again, smaller, for ``patience`` seconds.
    """

    batch_seconds: float = 0.02
    batch_rows: int = 10_000
    duty: float = 0.2
    lock_timeout: float = 0.2
    statement_timeout: float = 10.0
    patience: float = 60.0


def first_size(pace: Pace) -> int:
    """Return the rows of the first batch."""
    return min(FIRST_ROWS, pace.batch_rows)


def next_size(pace: Pace, rows: int, seconds: float) -> int:
    """Return the rows of the next batch, after one of ``rows`` rows took ``seconds``.

    It follows the target in proportion, at most doubling or halving at a time: one batch says
    little about the next.
    """
    wanted = pace.batch_seconds / max(seconds, 1e-6)
    return _within(pace, rows * min(_GROWTH, max(1 / _GROWTH, wanted)))


def smaller(pace: Pace, rows: int) -> int:
    """Return the rows to try with, after a batch of ``rows`` rows could not be done."""
    return _within(pace, rows / _GROWTH)


def rest(pace: Pace, seconds: float) -> float:
    """Return how long to leave the database alone after a batch of ``seconds``."""
    return min(_LONGEST_REST, seconds * (1 - pace.duty) / pace.duty)


def back_off(tries: int, chance: float) -> float:
    """Return the seconds before try number ``tries`` + 1; ``chance`` is between 0 and 1.

    Exponential, up to five seconds, of which chance takes away a half at most.
    """
    return min(5.0, 0.1 * 2.0 ** min(tries, 10)) * (1 - chance / 2)


def _within(pace: Pace, rows: float) -> int:
    return max(1, min(pace.batch_rows, int(rows)))
