"""Beside an injected auto-instrumentation: its spans, our lines and headers, nothing twice."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import httpx
import pytest

from tests.service.conftest import Serve
from tests.sinks.collector import Collector

APP = "tests.service.traced_app:app"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"

# What `opentelemetry-instrument` and the OpenTelemetry operator put in front of PYTHONPATH; the
# first two lines stand for the package opentelemetry-distro.
SITECUSTOMIZE = """
from opentelemetry.sdk._configuration import _OTelSDKConfigurator
_OTelSDKConfigurator().configure(auto_instrumentation_version="test")
from opentelemetry.instrumentation.auto_instrumentation import initialize
initialize()
"""


@pytest.mark.parametrize("backend", ["direct", "contrib"])
@pytest.mark.parametrize("headers", [{}, {"traceparent": f"00-{TRACE}-{PARENT}-01"}])
def test_a_request_is_one_span_and_all_else_carries_its_ids(
    serve: Serve,
    collector: Collector,
    migrated_url: str,
    tmp_path: Path,
    backend: str,
    headers: dict[str, str],
) -> None:
    injected = tmp_path / "injected"
    injected.mkdir()
    (injected / "sitecustomize.py").write_text(SITECUSTOMIZE)
    service = serve(
        APP,
        PYTHONPATH=os.pathsep.join([str(injected), os.environ.get("PYTHONPATH", "")]),
        DATABASE_URL=migrated_url,
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.http,
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
        OTEL_TRACES_EXPORTER="otlp",
        OTEL_METRICS_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
        OTEL_BSP_SCHEDULE_DELAY="100",
        TIDEGATE_TRACES_BACKEND=backend,
        TIDEGATE_DRAIN_DELAY="0.1",
    )
    service.until_ready()
    paths = {
        "/items/7": "GET /items/{item_id}",
        "/broken/x": "GET /broken/{secret}",
        "/sql/5": "GET /sql/{number}",
        "/nothing": "GET",
    }
    answers = {path: httpx.get(service.url + path, headers=headers) for path in paths}
    # A flag in the answer that is on, and a span that is there, in one test: one cannot miss.
    spans = collector.until(lambda found: sum(span.kind == "server" for span in found) >= 4)
    service.process.send_signal(signal.SIGTERM)
    lines = [json.loads(line) for line in service.stop().split("\n") if line.startswith("{")]
    spans = collector.spans()

    servers = {span.span_id: span for span in spans if span.kind == "server"}
    assert len(servers) == 4, [span.name for span in servers.values()]
    assert not any(span.scope == "tidegate" for span in spans)
    for path, answer in answers.items():
        _, trace_id, span_id, sampled = answer.headers["traceresponse"].split("-")
        server = servers[span_id]
        assert (server.trace_id, sampled) == (trace_id, "01")
        assert server.parent_span_id == (PARENT if headers else "")
        assert server.attributes.get("http.target", path) == path
        mine = [line for line in lines if line.get("request_id") == answer.headers["x-request-id"]]
        assert {line["trace_id"] for line in mine} == {trace_id}
        assert "tidegate.access" in {line["logger"] for line in mine}
        assert {line["span_id"] for line in mine if line["logger"] != "app"} == {span_id}
        # A handler's own line names the span that it is in, which may be one below the server's.
        assert {line["span_id"] for line in mine} <= {span.span_id for span in spans}
    statements = [span for span in spans if "postgresql" in map(str, span.attributes.values())]
    assert all(span.trace_id in {each.trace_id for each in servers.values()} for span in statements)
    # The injected instrumentation refuses SQLAlchemy 2.1; ours has been given the engine.
    assert sum(span.name.startswith("SELECT") for span in statements) == 1
    assert (
        sum(
            "already there" in line["message"] or "set already" in line["message"] for line in lines
        )
        == 1
    )


@pytest.mark.parametrize("backend", ["direct", "contrib"])
@pytest.mark.parametrize("wiring", ["everything", "before", "middleware", "after"])
def test_an_application_that_is_instrumented_already_is_one_server_span(
    serve: Serve, collector: Collector, wiring: str, backend: str
) -> None:
    service = serve(
        "tests.service.instrumented_app:app",
        WIRING=wiring,
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.http,
        OTEL_BSP_SCHEDULE_DELAY="100",
        TIDEGATE_TRACES_BACKEND=backend,
    )
    service.until_ready()
    caller = f"00-{TRACE}-{PARENT}"
    httpx.get(f"{service.url}/items/1", headers={"traceparent": f"{caller}-00"})
    root = httpx.get(f"{service.url}/items/2")
    child = httpx.get(f"{service.url}/items/3", headers={"traceparent": f"{caller}-01"})
    broken = httpx.get(f"{service.url}/broken/4")
    assert [each.status_code for each in (root, child, broken)] == [200, 200, 500]

    spans = collector.until(lambda found: sum(each.kind == "server" for each in found) >= 3)
    servers = {span.span_id: span for span in spans if span.kind == "server"}
    told = [each.headers["traceresponse"].split("-")[1:3] for each in (root, child, broken)]
    assert [[span.trace_id, span.span_id] for span in servers.values()] == told
    assert [span.parent_span_id for span in servers.values()] == ["", PARENT, ""]
    assert [span.status for span in servers.values()] == ["unset", "unset", "error"]
    below = [span.parent_span_id for span in spans if span.kind != "server"]
    assert set(below) <= set(servers), "nothing of the request that is not sampled"
