"""The process's own signs of life as metrics: event loop, requests in flight, pool, exporters."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from prometheus_client import Counter, Gauge, Histogram

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

_EVERY: Final = 0.25  # seconds between two looks
_LAG: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the numbers come from; each is read four times a second, on the service's loop."""

    in_flight: Callable[[], int]
    """Requests that have begun and not ended."""
    websockets: Callable[[], int]
    """Open WebSocket connections."""
    engine: AsyncEngine | None
    spans: Callable[[], tuple[int, int]]
    """Spans that a collector took, and those that were lost, since the process began."""
    lost_lines: Callable[[], int]
    """Log lines that nobody will read, since the process began."""


class _Families:
    """Made once for a process; several workers on one pod are summed up."""

    def __init__(self) -> None:
        self.lag = Histogram(
            "tidegate_event_loop_lag_seconds",
            "How late the event loop runs what is due.",
            buckets=_LAG,
        )
        self.in_flight = _gauge("http_requests_inprogress", "Number of HTTP requests in progress.")
        self.websockets = _gauge("tidegate_websocket_connections", "Open WebSocket connections.")
        self.pool_size = _gauge(
            "tidegate_database_pool_size", "Connections that the database pool may hold at once."
        )
        self.pool_in_use = _gauge(
            "tidegate_database_pool_in_use", "Connections of the pool that are lent out."
        )
        self.pool_waiting = _gauge(
            "tidegate_database_pool_waiting", "Tasks that wait for a connection of the pool."
        )
        self.spans = Counter(
            "tidegate_spans_exported", "Spans that the OpenTelemetry collector has taken."
        )
        self.lost_spans = Counter(
            "tidegate_spans_dropped",
            "Spans that were lost: the queue was full or the collector did not take them.",
        )
        self.lost_lines = Counter(
            "tidegate_log_lines_dropped", "Log lines that were lost: nobody read stdout in time."
        )
        self.build = Gauge(
            "tidegate_build_info",
            "Always 1; which application this is, and on what it runs.",
            ("application", "version", "tidegate", "python"),
            multiprocess_mode="livemax",
        )


_families: Final = cache(_Families)


def _gauge(name: str, documentation: str) -> Gauge:
    return Gauge(name, documentation, multiprocess_mode="livesum")


class Vitals:
    """Looks at the sources from :meth:`start` to :meth:`stop`."""

    def __init__(self, sources: Sources, application: str, application_version: str) -> None:
        self._sources = sources
        self._families = _families()
        self._families.build.labels(
            application, application_version, version("tidegate"), platform.python_version()
        ).set(1)
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:  # there, only what is set is summed up
            self._families.in_flight.set_function(sources.in_flight)
            self._families.websockets.set_function(sources.websockets)
        self._counted = (0, 0, 0)
        self._next: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look for the first time, and go on."""
        self._due = loop.time()
        self._look(loop)

    def stop(self) -> None:
        """Look for the last time."""
        if self._next:
            self._next.cancel()
        self._read()

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        self._families.lag.observe(max(0.0, now - self._due))
        self._read()
        self._due = now + _EVERY
        self._next = loop.call_at(self._due, self._look, loop)

    def _read(self) -> None:
        sources, families = self._sources, self._families
        families.in_flight.set(sources.in_flight())
        families.websockets.set(sources.websockets())
        if sources.engine is not None:
            from tidegate.pool import read_pool

            if pool := read_pool(sources.engine):
                families.pool_size.set(pool.size)
                families.pool_in_use.set(pool.in_use)
                families.pool_waiting.set(pool.waiting)
        counted = (*sources.spans(), sources.lost_lines())
        counters = (families.spans, families.lost_spans, families.lost_lines)
        for counter, total, before in zip(counters, counted, self._counted, strict=True):
            counter.inc(max(0, total - before))
        self._counted = counted
