"""The sinks under test."""

from tests.sinks.fixtures import black_hole as black_hole
from tests.sinks.fixtures import collector as collector
from tests.sinks.fixtures import otlp_sink as otlp_sink
