"""HTTP metrics under the names, labels and buckets of prometheus-fastapi-instrumentator.

Its five families say nothing that is not in one row for each method, status and route. So a
request adds to one row, and the families are summed up when somebody scrapes. Workers that share
their metrics cannot do that: they write each family's own value (see :class:`SharedSeries`).
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, Summary
from prometheus_client.core import (
    CounterMetricFamily,
    Exemplar,
    HistogramMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tidegate.settings import SettingsError

# Source: prometheus_fastapi_instrumentator.metrics.default; a test compares the two.
HIGH_RESOLUTION: Final = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5),
    *(3.0, 3.5, 4.0, 4.5, 5.0, 7.5, 10.0, 30.0, 60.0),
)
LOW_RESOLUTION: Final = (0.1, 0.5, 1.0)  # each of them is one of the others

_REQUESTS: Final = (
    "http_requests",
    "Total number of requests by method, status and handler.",
    ("method", "status", "handler"),
)
_REQUEST_SIZE: Final = (
    "http_request_size_bytes",
    "Content length of incoming requests by handler. Only value of header is respected. "
    "Otherwise ignored. No percentile calculated. ",
    ("handler",),
)
_RESPONSE_SIZE: Final = (
    "http_response_size_bytes",
    "Content length of outgoing responses by handler. Only value of header is respected. "
    "Otherwise ignored. No percentile calculated. ",
    ("handler",),
)
_DURATION_HIGH: Final = (
    "http_request_duration_highr_seconds",
    "Latency with many buckets but no API specific labels. "
    "Made for more accurate percentile calculations. ",
)
_DURATION_LOW: Final = (
    "http_request_duration_seconds",
    "Latency with only few buckets by handler. "
    "Made to be only used if aggregation by handler is important. ",
    ("method", "handler"),
)

METHODS: Final = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"}
)
OTHER_METHOD: Final = "_OTHER"
"""What OpenTelemetry calls a verb that somebody invented: it must not become a series."""


class Series(Protocol):
    """What requests of one method, status and route add to."""

    def record(
        self,
        duration: float,
        request_size: int,
        response_size: int,
        trace_id: str | None,
        at: float,
    ) -> None:
        """Add one request.

        Args:
            duration: seconds.
            request_size: bytes, as its ``Content-Length`` says; so ``response_size``.
            trace_id: of a sampled request, for the exemplar.
            at: when it ended, in seconds since 1970.
        """


class HttpMetrics(Protocol):
    """Gives the series for the requests of one method, status and route."""

    def series(self, method: str, status: str, handler: str) -> Series:
        """Return the series; ``status`` is a class such as ``2xx``."""


def http_metrics(registry: CollectorRegistry = REGISTRY) -> HttpMetrics:
    """Return the registry's HTTP metrics, the same ones for every application of the process.

    Raises:
        SettingsError: something else has registered these names.
    """
    found = _made.get(registry)
    if found is None:
        shared = "PROMETHEUS_MULTIPROC_DIR" in os.environ
        try:
            found = SharedHttpMetrics(registry) if shared else SummedHttpMetrics(registry)
        except ValueError:
            raise SettingsError(
                "Tidegate(app) and something else both measure HTTP requests as http_requests: "
                "take Instrumentator().instrument(app) out, or set TIDEGATE_METRICS=false"
            ) from None
        _made[registry] = found
    return found


_made: Final[dict[CollectorRegistry, HttpMetrics]] = {}


class SummedSeries:
    """Plain numbers, added to by whoever settles ended requests and summed up by a scrape."""

    __slots__ = ("buckets", "exemplars", "received", "seconds", "sent")

    def __init__(self) -> None:
        self.buckets = [0] * (len(HIGH_RESOLUTION) + 1)
        self.exemplars: dict[int, tuple[float, float, str]] = {}  # when, duration, trace id
        self.seconds = 0.0
        self.received = 0
        self.sent = 0

    def record(
        self,
        duration: float,
        request_size: int,
        response_size: int,
        trace_id: str | None,
        at: float,
    ) -> None:
        """Add one request."""
        bucket = bisect_left(HIGH_RESOLUTION, duration)
        self.buckets[bucket] += 1
        self.seconds += duration
        self.received += request_size
        self.sent += response_size
        if trace_id is not None:
            self.exemplars[bucket] = (at, duration, trace_id)


class SummedHttpMetrics(Collector):
    """The series of a process that is alone."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._rows: dict[tuple[str, str, str], SummedSeries] = {}
        self.sources: list[Callable[[], None]] = []
        """Called before the rows are summed: whoever holds requests back counts them now."""
        registry.register(self)

    def series(self, method: str, status: str, handler: str) -> Series:
        """Return the series of the labels."""
        return self._rows.setdefault((method, status, handler), SummedSeries())

    def collect(self) -> Iterator[Metric]:
        """Sum the rows up to the families."""
        for each in self.sources:
            each()
        rows = list(self._rows.items())
        requests = CounterMetricFamily(*_REQUESTS[:2], labels=_REQUESTS[2])
        received: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        sent: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        low: dict[tuple[str, str], list[SummedSeries]] = defaultdict(list)
        for (method, status, handler), row in rows:
            count = sum(row.buckets)
            requests.add_metric((method, status, handler), count)
            received[handler][0] += count
            received[handler][1] += row.received
            sent[handler][0] += count
            sent[handler][1] += row.sent
            low[method, handler].append(row)
        yield requests
        for definition, sums in ((_REQUEST_SIZE, received), (_RESPONSE_SIZE, sent)):
            sizes = SummaryMetricFamily(*definition[:2], labels=definition[2])
            for handler, (count, size) in sums.items():
                sizes.add_metric((handler,), count, size)
            yield sizes
        high = HistogramMetricFamily(*_DURATION_HIGH)
        high.add_metric((), *_histogram([row for _, row in rows], HIGH_RESOLUTION))
        yield high
        by_handler = HistogramMetricFamily(*_DURATION_LOW[:2], labels=_DURATION_LOW[2])
        for labels, members in low.items():
            by_handler.add_metric(labels, *_histogram(members, LOW_RESOLUTION))
        yield by_handler


def _histogram(
    rows: Iterable[SummedSeries], bounds: tuple[float, ...]
) -> tuple[list[tuple[str, float] | tuple[str, float, Exemplar]], float]:
    """Return the cumulative buckets under these bounds, and the sum."""
    ends = [HIGH_RESOLUTION.index(bound) for bound in bounds] + [len(HIGH_RESOLUTION)]
    counts, seconds = [0] * len(ends), 0.0
    latest: dict[int, tuple[float, float, str]] = {}
    for row in rows:
        seconds += row.seconds
        for bucket, count in enumerate(row.buckets):
            counts[bisect_left(ends, bucket)] += count
        for bucket, exemplar in list(row.exemplars.items()):
            place = bisect_left(ends, bucket)
            latest[place] = max(exemplar, latest.get(place, exemplar))
    buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
    total = 0
    for place, count in enumerate(counts):
        total += count
        bound = str(bounds[place]) if place < len(bounds) else "+Inf"
        if place in latest:
            at, duration, trace_id = latest[place]
            buckets.append((bound, total, Exemplar({"trace_id": trace_id}, duration, at)))
        else:
            buckets.append((bound, total))
    return buckets, seconds


class SharedSeries:
    """Values in files that all workers of a pod share, and that outlive a killed one."""

    def __init__(self, metrics: SharedHttpMetrics, method: str, status: str, handler: str) -> None:
        self._requests = metrics.requests.labels(method, status, handler)
        self._received = metrics.received.labels(handler)
        self._sent = metrics.sent.labels(handler)
        self._high = metrics.high
        self._low = metrics.low.labels(method, handler)

    def record(
        self,
        duration: float,
        request_size: int,
        response_size: int,
        trace_id: str | None,
        at: float,
    ) -> None:
        """Add one request; shared files have no room for exemplars."""
        self._requests.inc()
        self._received.observe(request_size)
        self._sent.observe(response_size)
        self._high.observe(duration)
        self._low.observe(duration)


class SharedHttpMetrics:
    """The series of one worker among several."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(*_REQUESTS, registry=registry)
        self.received = Summary(*_REQUEST_SIZE, registry=registry)
        self.sent = Summary(*_RESPONSE_SIZE, registry=registry)
        self.high = Histogram(*_DURATION_HIGH, buckets=HIGH_RESOLUTION, registry=registry)
        self.low = Histogram(*_DURATION_LOW, buckets=LOW_RESOLUTION, registry=registry)
        self._rows: dict[tuple[str, str, str], SharedSeries] = {}

    def series(self, method: str, status: str, handler: str) -> Series:
        """Return the series of the labels."""
        key = (method, status, handler)
        if key not in self._rows:
            self._rows[key] = SharedSeries(self, *key)
        return self._rows[key]
