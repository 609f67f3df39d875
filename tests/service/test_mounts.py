"""A FastAPI mounted in another: one request, under the template that its client would know."""

from __future__ import annotations

import json
import signal
from collections import Counter

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.service.conftest import Serve
from tests.sinks.collector import Collector

TEMPLATES = {
    "/items/1": "/items/{item_id}",
    "/sub/items/2": "/sub/items/{item_id}",
    "/sub/deeper/items/3": "/sub/deeper/items/{item_id}",
    "/tenants/a/items/4": "/tenants/{tenant}/items/{item_id}",
    "/tenants/b/items/5": "/tenants/{tenant}/items/{item_id}",
    "/tenants/b/deeper/items/6": "/tenants/{tenant}/deeper/items/{item_id}",
    "/sub/items/broken/7": "/sub/items/broken/{item_id}",
}


@pytest.mark.parametrize("backend", ["direct", "contrib"])
def test_a_mounted_application_is_one_span_one_line_and_one_series_under_its_prefix(
    serve: Serve, collector: Collector, backend: str
) -> None:
    service = serve(
        "tests.service.mounted_app:app",
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.http,
        TIDEGATE_TRACES_BACKEND=backend,
        TIDEGATE_DRAIN_DELAY="0.1",
    )
    service.until_ready()
    for _ in range(2):  # templates are looked up once and remembered
        for path in TEMPLATES:
            httpx.get(f"{service.url}{path}?token=canary")
    exposition = httpx.get(f"{service.admin}/metrics").text
    service.process.send_signal(signal.SIGTERM)
    lines = [json.loads(line) for line in service.stop().split("\n") if line.startswith("{")]

    expected = Counter(list(TEMPLATES.values()) * 2)
    access = [line for line in lines if line["logger"] == "tidegate.access"]
    assert Counter(line["http.route"] for line in access) == expected
    counted = {
        sample.labels["handler"]: sample.value
        for family in parse_text(exposition)
        if family.name == "http_requests"
        for sample in family.samples
        if sample.name == "http_requests_total"
    }
    assert counted == expected
    spans = collector.until(lambda spans: len(spans) >= 14)
    assert len(spans) == 14
    assert {span.span_id for span in spans} == {line["span_id"] for line in access}
    assert "canary" not in collector.raw(), "FastAPI's own telemetry tells the query"
    if backend == "direct":
        assert Counter(span.attributes["http.route"] for span in spans) == expected
        assert Counter(span.name for span in spans) == Counter(
            {f"GET {route}": number for route, number in expected.items()}
        )
