"""promtool finds what is wrong, and nothing where nothing is."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from tests.sinks.promtool import promtool


def test_an_exposition_without_faults_has_no_problems() -> None:
    registry = CollectorRegistry()
    Counter("orders", "Orders taken.", ["country"], registry=registry).labels("ch").inc()
    Histogram("wait_seconds", "Time in the queue.", registry=registry).observe(0.2)
    assert promtool(generate_latest(registry).decode()) == []


@pytest.mark.parametrize(
    ("exposition", "problem"),
    [
        ("# TYPE orders counter\norders 1\n", 'counter metrics should have "_total" suffix'),
        ("# TYPE orders_total counter\norders_total 1\n", "no help text"),
        ("orders{ 1\n", "error while linting"),
        (
            "# HELP a_total A.\n# TYPE a_total counter\na_total 1\na_total 2\n",
            "metric not unique",
        ),
    ],
)
def test_each_fault_is_named(exposition: str, problem: str) -> None:
    assert problem in "\n".join(promtool(exposition))
