"""Spans of a served application, as a real collector received them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from tests.service.conftest import Serve, Service
from tests.sinks.collector import Collector
from tests.sinks.spans import Span

APP = "tests.service.traced_app:app"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
NOT_SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-00"}


def tracing(collector: Collector, **more: str) -> dict[str, str]:
    """The environment of a service that is traced."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.http,
        "OTEL_SERVICE_NAME": "traced",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "TIDEGATE_DRAIN_DELAY": "0.1",
    } | more


def started(serve: Serve, collector: Collector, **more: str) -> Service:
    service = serve(APP, **tracing(collector, **more))
    service.until_ready()
    return service


def servers(spans: list[Span]) -> list[Span]:
    return [span for span in spans if span.kind == "server"]


@pytest.mark.parametrize("backend", ["direct", "contrib"])
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_request_is_a_span_at_the_collector(
    serve: Serve, collector: Collector, backend: str, protocol: str
) -> None:
    endpoint = collector.grpc if protocol == "grpc" else collector.http
    service = started(
        serve,
        collector,
        TIDEGATE_TRACES_BACKEND=backend,
        OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
        OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
    )
    httpx.get(f"{service.url}/items/7?token=canary", headers=SAMPLED)

    (span,) = collector.until(lambda spans: len(spans) == 1)
    assert (span.name, span.kind) == ("GET /items/{item_id}", "server")
    assert (span.trace_id, span.parent_span_id) == (TRACE, PARENT)
    assert span.attributes["item.id"] == 7
    assert [event.name for event in span.events] == ["looked"]
    assert span.resource["service.name"] == "traced"
    assert span.resource["deployment.environment.name"] == "test"
    assert "canary" not in collector.raw()


def test_both_backends_say_the_same_of_a_request(serve: Serve, collector: Collector) -> None:
    said: list[dict[str, dict[str, Any]]] = []
    for backend in ("direct", "contrib"):
        service = started(serve, collector, TIDEGATE_TRACES_BACKEND=backend)
        before = len(collector.spans())
        headers = {"user-agent": "test/1", "host": "shop.example.org:8443"}
        for method, path in (
            ("GET", "/items/7"),
            ("GET", "/items/no-number"),
            ("GET", "/nothing"),
            ("GET", "/broken/x"),
            ("DELETE", "/items/7"),
        ):
            httpx.request(method, service.url + path, headers=headers)
        spans = collector.until(lambda spans: len(spans) == before + 5)[before:]  # noqa: B023
        said.append(
            {f"{span.name} {span.attributes['url.path']!s}": _described(span) for span in spans}
        )

    direct, contrib = said
    assert direct == contrib
    assert len(direct) == 5


def _described(span: Span) -> dict[str, Any]:
    attributes = {
        name: value
        for name, value in span.attributes.items()
        # What changes from one connection to the next; the address that the client asked for,
        # where contrib tells the socket's; and contrib gives the status where we give the type.
        if name not in {"client.port", "server.address", "server.port", "error.type"}
    }
    return attributes | {"status": span.status, "events": [event.name for event in span.events]}


def test_a_trace_goes_from_the_header_to_the_statement(
    serve: Serve, collector: Collector, migrated_url: str
) -> None:
    service = started(serve, collector, DATABASE_URL=migrated_url)
    answer = httpx.get(f"{service.url}/sql/5", headers=SAMPLED)

    spans = collector.until(lambda spans: len(servers(spans)) == 1)
    (server,) = servers(spans)
    statement = next(
        span
        for span in spans
        if span.attributes.get("db.statement", "") or span.attributes.get("db.query.text", "")
    )
    by_id = {span.span_id: span for span in spans}
    above = statement
    while above.parent_span_id in by_id:
        above = by_id[above.parent_span_id]
    assert above is server
    assert server.parent_span_id == PARENT
    assert {span.trace_id for span in spans} == {TRACE}
    assert answer.headers["traceresponse"] == f"00-{TRACE}-{server.span_id}-01"


def test_a_request_that_is_not_sampled_leaves_no_span_not_even_of_a_statement(
    serve: Serve, collector: Collector, migrated_url: str
) -> None:
    service = started(serve, collector, DATABASE_URL=migrated_url)
    for _ in range(10):
        answer = httpx.get(f"{service.url}/sql/5", headers=NOT_SAMPLED)
    httpx.get(f"{service.url}/items/1")

    collector.until(lambda spans: len(servers(spans)) == 1)
    assert [span.name for span in collector.spans()] == ["GET /items/{item_id}"]
    assert answer.headers["traceresponse"].startswith(f"00-{TRACE}-")
    assert answer.headers["traceresponse"].endswith("-00")


@pytest.mark.parametrize("backend", ["direct", "contrib"])
def test_every_engine_of_a_process_has_its_statements_traced(
    serve: Serve, collector: Collector, migrated_url: str, backend: str
) -> None:
    service = serve(
        "tests.service.engines_app:app",
        **tracing(
            collector,
            DATABASE_URL=migrated_url,
            OTEL_TRACES_SAMPLER="parentbased_always_off",  # the check's statements count not
            TIDEGATE_TRACES_BACKEND=backend,
        ),
    )
    service.until_ready()
    httpx.get(f"{service.url}/", headers=SAMPLED).raise_for_status()

    collector.until(lambda spans: len(servers(spans)) == 1)
    told = [str(span.attributes.get("db.statement", "")) for span in collector.spans()]
    assert sorted(filter(None, told)) == [
        f"SELECT '{name}'" for name in ("first", "its own", "later", "second")
    ]


# What a package such as opentelemetry-propagator-b3 consists of.
PROPAGATOR = """
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import TextMapPropagator

class Propagator(TextMapPropagator):
    fields = {"X-House-Trace"}

    def extract(self, carrier, context=None, getter=None):
        context = context or Context()
        found = getter.get(carrier, "X-House-Trace")
        if not found:
            return context
        trace_id, span_id, sampled = found[0].split("/")
        ids = trace.SpanContext(
            int(trace_id, 16), int(span_id, 16), True, trace.TraceFlags(int(sampled))
        )
        return trace.set_span_in_context(trace.NonRecordingSpan(ids), context)

    def inject(self, carrier, context=None, setter=None):
        pass
"""


@pytest.mark.parametrize("backend", ["direct", "contrib"])
def test_a_caller_is_found_by_the_propagators_that_the_environment_names(
    serve: Serve, collector: Collector, tmp_path: Path, backend: str
) -> None:
    (tmp_path / "house.py").write_text(PROPAGATOR)
    package = tmp_path / "house-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: house\nVersion: 1.0\n")
    entry = "[opentelemetry_propagator]\nhouse = house:Propagator\n"
    (package / "entry_points.txt").write_text(entry)
    service = started(
        serve,
        collector,
        PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]),
        OTEL_PROPAGATORS="house",
        TIDEGATE_TRACES_BACKEND=backend,
    )
    sampled = httpx.get(f"{service.url}/items/1", headers={"x-house-trace": f"{TRACE}/{PARENT}/1"})
    silent = httpx.get(f"{service.url}/items/2", headers={"x-house-trace": f"{TRACE}/{PARENT}/0"})
    other = httpx.get(f"{service.url}/items/3", headers=SAMPLED)

    spans = collector.until(lambda spans: len(spans) >= 2)
    found = {span.attributes["item.id"]: (span.trace_id, span.parent_span_id) for span in spans}
    assert found[1] == (TRACE, PARENT)
    assert found[3][0] != TRACE
    assert found.keys() == {1, 3}
    assert sampled.headers["traceresponse"].startswith(f"00-{TRACE}-")
    assert silent.headers["traceresponse"].startswith(f"00-{TRACE}-")
    assert silent.headers["traceresponse"].endswith("-00")
    assert TRACE not in other.headers["traceresponse"]


@pytest.mark.parametrize("backend", ["direct", "contrib"])
def test_a_propagator_that_nobody_knows_is_named_before_the_port_opens(
    serve: Serve, backend: str
) -> None:
    service = serve(
        "tests.service.mounted_app:app",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1",
        OTEL_PROPAGATORS="b4",
        TIDEGATE_TRACES_BACKEND=backend,
    )
    log = service.stop()
    assert service.process.returncode == 2
    assert "OTEL_PROPAGATORS: no installed package has the propagator 'b4'" in log
    assert "Traceback" not in log


def test_a_called_service_continues_the_trace(serve: Serve, collector: Collector) -> None:
    service = started(serve, collector)
    httpx.get(f"{service.url}/call", params={"url": f"{service.url}/items/1"}, headers=SAMPLED)

    spans = collector.until(lambda spans: len(spans) == 3)
    by_name = {span.name: span for span in spans}
    called, client = by_name["GET /items/{item_id}"], next(s for s in spans if s.kind == "client")
    assert called.parent_span_id == client.span_id
    assert client.parent_span_id == by_name["GET /call"].span_id
    assert {span.trace_id for span in spans} == {TRACE}


def test_a_failed_request_says_its_type_and_place_and_not_its_text(
    serve: Serve, collector: Collector
) -> None:
    service = started(serve, collector)
    assert httpx.get(f"{service.url}/broken/canary").status_code == 500

    (span,) = collector.until(lambda spans: len(spans) == 1)
    assert span.status == "error"
    assert span.attributes["error.type"] == "ValueError"
    (event,) = span.events
    assert event.attributes["exception.type"] == "ValueError"
    assert "traced_app.py" in str(event.attributes["exception.stacktrace"])
    assert "cannot do anything" not in collector.raw()


def test_probes_and_scrapes_are_no_spans(serve: Serve, collector: Collector) -> None:
    service = started(serve, collector)
    for path in ("/health/live", "/health/ready", "/metrics"):
        assert httpx.get(service.admin + path).status_code == 200
    httpx.get(f"{service.url}/items/1")

    collector.until(lambda spans: bool(spans))
    assert [span.name for span in collector.spans()] == ["GET /items/{item_id}"]


@pytest.mark.parametrize("backend", ["direct", "contrib"])
def test_health_checks_are_no_spans_though_the_sampler_asks_no_parent(
    serve: Serve, collector: Collector, migrated_url: str, backend: str
) -> None:
    service = started(
        serve,
        collector,
        DATABASE_URL=migrated_url,
        OTEL_TRACES_SAMPLER="always_on",
        TIDEGATE_CHECK_CACHE="0",
        TIDEGATE_TRACES_BACKEND=backend,
    )
    for _ in range(3):
        httpx.get(f"{service.admin}/health/ready")
    httpx.get(f"{service.url}/items/1")

    collector.until(lambda spans: bool(servers(spans)))
    assert [span.name for span in collector.spans()] == ["GET /items/{item_id}"]


@pytest.mark.parametrize("backend", ["direct", "contrib"])
def test_the_spans_of_the_last_requests_arrive_after_sigterm(
    serve: Serve, collector: Collector, backend: str
) -> None:
    service = started(
        serve,
        collector,
        TIDEGATE_TRACES_BACKEND=backend,
        TIDEGATE_DRAIN_DELAY="6",
        OTEL_BSP_SCHEDULE_DELAY="60000",
    )
    service.process.send_signal(signal.SIGTERM)
    service.until(lambda answer: answer.json()["status"] == "draining")
    # One client: each would make a TLS context of its own, and the drain delay would be over.
    with httpx.Client() as client, ThreadPoolExecutor(10) as threads:
        answers = [*threads.map(client.get, [f"{service.url}/items/{n}" for n in range(100)])]
    assert {answer.status_code for answer in answers} == {200}
    log = service.stop()

    assert service.process.returncode == 0
    spans = collector.until(lambda spans: len(spans) >= 100)
    assert {span.attributes["item.id"] for span in spans} == set(range(100))
    assert log.count('"logger":"tidegate.access"') == 100


def test_the_sampling_ratio_is_kept(serve: Serve, collector: Collector) -> None:
    service = started(
        serve,
        collector,
        OTEL_TRACES_SAMPLER="parentbased_traceidratio",
        OTEL_TRACES_SAMPLER_ARG="0.5",
    )
    sampled = 0
    with httpx.Client() as client:
        for _ in range(200):
            answer = client.get(f"{service.url}/items/1")
            sampled += answer.headers["traceresponse"].endswith("-01")

    assert 60 < sampled < 140
    collector.until(lambda spans: len(spans) == sampled)


@pytest.mark.parametrize(
    ("backend", "path"), [("direct", "echo"), ("contrib", "echo"), ("direct", "handed-over")]
)
async def test_a_websocket_is_one_span_and_one_line_however_much_is_said(
    serve: Serve, collector: Collector, backend: str, path: str
) -> None:
    service = started(serve, collector, TIDEGATE_TRACES_BACKEND=backend)
    url = f"{service.url.replace('http', 'ws')}/{path}/42"
    async with websockets.connect(url, additional_headers=SAMPLED) as client:
        assert client.response is not None
        told = client.response.headers
        for number in range(10):
            await client.send(str(number))
            assert await client.recv() == str(number)
        await client.close(4321)
    spans = await asyncio.to_thread(collector.until, bool)
    service.process.terminate()
    log = await asyncio.to_thread(service.stop)

    (span,) = spans
    assert (span.kind, span.trace_id, span.parent_span_id) == ("server", TRACE, PARENT)
    assert span.attributes["http.route"] == f"/{path}/{{room}}"
    assert told["traceresponse"] == f"00-{TRACE}-{span.span_id}-01"
    (line,) = (json.loads(line) for line in log.splitlines() if '"tidegate.access"' in line)
    assert line["message"] == "websocket"
    assert line["http.route"] == f"/{path}/{{room}}"
    assert line["websocket.close_code"] == 4321
    assert (line["trace_id"], line["request_id"]) == (TRACE, told["x-request-id"])
