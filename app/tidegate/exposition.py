"""What a scrape of ``/metrics`` gets."""

from __future__ import annotations

import os

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector


def render(accept: str) -> tuple[bytes, str]:
    """Return the exposition and its content type.

    OpenMetrics, which alone carries exemplars, if the scraper's ``Accept`` header asks for it;
    else Prometheus' text format. With several workers it is the sum over all of them.
    """
    registry = REGISTRY
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type
