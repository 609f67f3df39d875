"""How far a backfill is and how long it will take: plain numbers, and a line for a person."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tidegate_migrate.backfill.keyrange import Key, Values
from tidegate_migrate.backfill.table import Entry


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of a run.

    ``share`` is how much of the table is done, 0 to 1, where that is known. Speed in rows walked
    over per second of this run, pauses included; ``seconds_left`` at that speed. ``paused`` says
    why it waits.
    """

    name: str
    rows_seen: int
    rows_changed: int
    share: float | None = None
    rows_per_second: float = 0.0
    seconds_left: float | None = None
    batch_rows: int = 0
    paused: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what a machine reads."""
        return {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }


class Meter:
    """Turns how far a backfill is into progress since the moment a run began.

    ``ends`` are the table's first and last key then, ``estimate`` its rows by the statistics
    (0: unknown). Times are seconds of a monotonic clock.
    """

    def __init__(
        self,
        name: str,
        key: Key,
        ends: tuple[Values, Values] | None,
        estimate: int,
        entry: Entry,
        now: float,
    ) -> None:
        self._name = name
        self._key = key
        self._ends = ends
        self._estimate = estimate
        self._began = now
        self._began_rows = entry.rows_seen
        self._began_share = self._share(entry)

    def read(self, entry: Entry, now: float, batch_rows: int, paused: str | None) -> Progress:
        """Return the progress at a moment."""
        elapsed = now - self._began
        share = self._share(entry)
        return Progress(
            name=self._name,
            rows_seen=entry.rows_seen,
            rows_changed=entry.rows_changed,
            share=share,
            rows_per_second=(entry.rows_seen - self._began_rows) / elapsed if elapsed > 0 else 0.0,
            seconds_left=_seconds_left(self._began_share, share, elapsed),
            batch_rows=batch_rows,
            paused=paused,
        )

    def _share(self, entry: Entry) -> float | None:
        """By the key's position, else by the number of rows; only the end of the key is all."""
        if entry.finished_at or self._ends is None:
            return 1.0
        position = self._key.position(*self._ends, entry.last_key or self._ends[0])
        if position is None and self._estimate:
            position = entry.rows_seen / self._estimate
        return None if position is None else min(position, 0.999)


def _seconds_left(began: float | None, share: float | None, elapsed: float) -> float | None:
    if began is None or share is None or share <= began:
        return None
    return elapsed * (1 - share) / (share - began)


def line(progress: Progress) -> str:
    """Say it in one line, the most important first."""
    parts = [progress.name]
    if progress.share is not None:
        parts.append(f"{int(progress.share * 100)}%")
    rows = f"{progress.rows_seen:,} rows, {progress.rows_changed:,} changed"
    if progress.paused:
        return "  ".join([*parts, f"paused: {progress.paused}", rows])
    parts += [rows, f"{progress.rows_per_second:,.0f} rows/s"]
    if progress.seconds_left is not None:
        parts.append(f"about {duration(progress.seconds_left)} left")
    return "  ".join(parts)


def duration(seconds: float) -> str:
    """Write a time as a person says it: ``8 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
