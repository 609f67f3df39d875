"""The figures to reach, and whether they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.figures import Figures
from bench.rows import FULL


@dataclass(frozen=True)
class Goal:
    """A number of a row that must be at most, or at least, ``limit``."""

    section: str
    row: str
    figure: str
    sign: str
    limit: float
    words: str

    def reached(self, value: float) -> bool:
        """Whether a measured value does it; the limit itself does."""
        return value <= self.limit if self.sign == "≤" else value >= self.limit


GOALS = (
    Goal(
        "inprocess",
        FULL,
        "per 50 µs",
        "≤",
        8,
        "all hooks, 5 % sampled: µs added in process to an app of 50",
    ),
    Goal(
        "inprocess",
        "tidegate-5-60-routes",
        "added",
        "≤",
        10,
        "all hooks behind 60 other routes: µs added in process",
    ),
    Goal("sockets", FULL, "ratio", "≥", 0.90, "all hooks, 5 % sampled: throughput"),
    Goal("sockets", "tidegate-100", "ratio", "≥", 0.80, "all hooks, 100 % sampled: throughput"),
    Goal("start", FULL, "ratio", "≤", 1.15, "start to first answer"),
    Goal("memory", FULL, "ratio", "≤", 1.12, "RSS after the load"),
    Goal("restarts", FULL, "failed", "≤", 0, "requests failed over the restarts"),
    Goal("flush", FULL, "spans", "≥", 100, "spans of 100 requests that arrive after SIGTERM"),
    Goal("flush", FULL, "logged", "≥", 100, "log lines of 100 requests that arrive after SIGTERM"),
    Goal("flush", FULL, "counted", "≥", 100, "metrics of 100 requests that arrive after SIGTERM"),
    Goal("upgrade", "tidegate", "nothing pending", "≤", 1.0, "up with nothing pending"),
    Goal("upgrade", "tidegate", "500 pending", "≤", 1.15, "up with 500 pending revisions"),
    Goal("waiting", "tidegate", "ratio", "≤", 2.0, "p99 while an ALTER waits behind a reader"),
    Goal("ordering", "read", "ratio", "≥", 0.45, "GET one order, beside asyncpg and Starlette"),
    Goal("ordering", "place", "ratio", "≥", 0.90, "POST an order, beside FastAPI and SQLAlchemy"),
    Goal("websockets", "idle", "kB each", "≤", 25, "RSS for each of 2,000 idle WebSockets"),
    Goal("export", "export", "ratio", "≤", 1.3, "1,000,000 orders as CSV, beside COPY to a file"),
    Goal("export", "export", "MiB added", "≤", 20, "memory that such an export takes"),
    Goal("backfill", "backfill", "ratio", "≤", 1.5, "p99 beside a backfill of 1,000,000 rows"),
)


@dataclass(frozen=True)
class Judged:
    """A goal and what was measured."""

    goal: Goal
    value: float

    @property
    def reached(self) -> bool:
        """Whether the measured value does it."""
        return self.goal.reached(self.value)


def judge(sections: Mapping[str, Figures]) -> list[Judged]:
    """Judge every goal whose figure is among the results."""
    judged = []
    for goal in GOALS:
        value = sections.get(goal.section, {}).get(goal.row, {}).get(goal.figure)
        if value is not None:
            judged.append(Judged(goal, value))
    return judged
