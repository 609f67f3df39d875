"""The back ends as fixtures; a room's conftest imports the ones it uses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sinks.collector import Collector, running_collector
from tests.sinks.otlp_sink import OtlpSink, running_sink, silent_port


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    """A real OpenTelemetry collector of the test's own."""
    with running_collector(tmp_path) as running:
        yield running


@pytest.fixture
def otlp_sink() -> Iterator[OtlpSink]:
    """An OTLP sink of the test's own; set its ``answer`` to make it fail."""
    with running_sink() as running:
        yield running


@pytest.fixture
def black_hole() -> Iterator[str]:
    """The URL of a port that takes everything and never answers."""
    with silent_port() as url:
        yield url
