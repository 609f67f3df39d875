"""A server span says what the client sent as far as it is sound, and never spoils its batch."""

from __future__ import annotations

import logging
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.trace import SpanKind, TraceState
from starlette.types import Scope

from tests.sinks.spans import Span, read_spans
from tidegate import otlp, traces
from tidegate.context import RequestContext
from tidegate.export import Batching, SpanExporter
from tidegate.otel_environment import Limits
from tidegate.routes import NO_ROUTE
from tidegate.sampling import read_sampling
from tidegate.scrub import Scrubber
from tidegate.settings import Settings
from tidegate.spans import DirectTracerProvider, Pipeline
from tidegate.tracing import DirectTracing, InstrumentedTracing

TRACE, SPAN, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "b7ad6b7169203331"
CANARY = "c4n4ry-7f3a"

# All that a server lets through in the value of a header.
header_values = st.binary(max_size=60).map(lambda value: value.translate(None, b"\r\n\0"))
hosts = st.one_of(header_values, st.from_regex(rb"[a-z.\[\]:]*:[0-9\xb2\xb9]*", fullmatch=True))


def pipeline_to(exporter: SpanExporter, limits: Limits | None = None) -> Pipeline:
    sampling = read_sampling("always_on", "")
    return Pipeline(exporter, sampling, limits or Limits(), Scrubber(), exception_text=False)


def request_of(path: str = "/", method: str = "GET") -> tuple[RequestContext, Scope]:
    scope = {"type": "http", "method": method, "path": path, "scheme": "http", "client": None}
    return RequestContext("req-1", TRACE, SPAN, True), scope


def traced(
    headers: dict[bytes, bytes],
    path: str = "/",
    method: str = "GET",
    *,
    limits: Limits | None = None,
    handler: Callable[[trace.Span], None] = lambda span: None,
    route: str = NO_ROUTE,
    error: Exception | None = None,
) -> Span:
    """The span of one request, as the collector would read it."""
    sent: list[bytes] = []
    exporter = SpanExporter(lambda: lambda request, _: sent.append(request), otlp.resource({}))
    tracing = DirectTracing(pipeline_to(exporter, limits))
    request, scope = request_of(path, method)
    finish, attached = tracing.enter(request, CALLER, scope, headers)
    assert finish
    handler(trace.get_current_span())
    finish(scope, headers, route, 200, error)
    tracing.leave(attached)
    assert exporter.flush(10)
    assert exporter.dropped == 0
    (received,) = map(ExportTraceServiceRequest.FromString, sent)
    (span,) = read_spans(received.resource_spans)
    return span


@given(hosts, header_values, st.text(max_size=20), st.text(max_size=120))
@example(b"host:\xb2", b"", "/", "GET")
@example(b"host:" + b"9" * 5000, b"", "/", "GET")
@example(b"host", b"\xff", "/\udc80", "\ud800")
def test_no_host_agent_path_or_verb_costs_the_span(
    host: bytes, agent: bytes, path: str, method: str
) -> None:
    span = traced({b"host": host, b"user-agent": agent}, path, method)
    assert isinstance(span.attributes["server.address"], str)
    assert isinstance(span.attributes["server.port"], int)


@pytest.mark.parametrize(
    ("host", "address", "port"),
    [
        (b"shop.example.org:8443", "shop.example.org", 8443),
        (b"shop.example.org", "shop.example.org", 80),
        (b"[2001:db8::1]:8443", "2001:db8::1", 8443),
        (b"[2001:db8::1]", "2001:db8::1", 80),
        (b"shop:port", "shop:port", 80),
    ],
)
def test_the_host_is_read_with_and_without_a_port(host: bytes, address: str, port: int) -> None:
    attributes = traced({b"host": host}).attributes
    assert (attributes["server.address"], attributes["server.port"]) == (address, port)


@given(header_values, header_values)
@example(b"a=" + b"x" * 100_000, b"a=" + b"x" * 100_000)
def test_no_baggage_and_no_tracestate_costs_the_span(carried: bytes, state: bytes) -> None:
    headers = {b"baggage": carried, b"tracestate": state}
    span = traced(headers | {b"traceparent": f"00-{TRACE}-{CALLER}-01".encode()})
    assert (span.trace_id, span.span_id, span.parent_span_id) == (TRACE, SPAN, CALLER)


def test_what_libraries_say_of_a_broken_header_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    traces.install(Settings(traces_backend="off"), Scrubber())
    traced({b"baggage": f"{CANARY},{CANARY}=\xff".encode(), b"tracestate": CANARY.encode()})
    baggage.set_baggage("key", CANARY)
    TraceState([(CANARY.upper(), CANARY)])
    assert not caplog.records
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_what_a_handler_sets_wins_and_nothing_is_said_twice() -> None:
    def handler(span: trace.Span) -> None:
        span.update_name("buy?token=canary")
        span.set_attributes({"http.route": "/mine", "url.path": "/x", "error.type": "own"})
        span.set_attribute("client.address", "203.0.113.7")

    span = traced({}, "/items/7", route="/items/{id}", handler=handler, error=ValueError())
    assert span.name == "buy?[scrubbed]"
    attributes = span.attributes
    assert (attributes["http.route"], attributes["url.path"]) == ("/mine", "/x")
    assert (attributes["client.address"], attributes["error.type"]) == ("203.0.113.7", "own")
    assert attributes["http.request.method"] == "GET"


def test_a_secret_in_a_path_stays_here() -> None:
    path = traced({}, "/go/https://user:canary@host/x?token=canary").attributes["url.path"]
    assert "canary" not in str(path)


@pytest.mark.parametrize(("limit", "longest"), [(None, 1024), (5, 5), (5000, 1024)])
def test_values_of_a_client_are_cut(limit: int | None, longest: int) -> None:
    headers = {b"user-agent": b"a" * 60_000, b"host": b"h" * 60_000}
    said = traced(headers, "/" + "p" * 60_000, limits=Limits(value_length=limit)).attributes
    for name in ("user_agent.original", "server.address", "url.path"):
        assert len(str(said[name])) == longest


def test_a_client_with_long_headers_takes_no_memory() -> None:
    exporter = SpanExporter(lambda: lambda *_: None, b"", Batching(delay=600, max_batch=2048))
    tracing = DirectTracing(pipeline_to(exporter))
    tracemalloc.start()
    try:
        for number in range(1000):
            headers = {b"user-agent": b"%d" % number + b"x" * 30_000}
            request, scope = request_of(f"/{number}")
            finish, attached = tracing.enter(request, None, scope, headers)
            assert finish
            finish(scope, headers, "/", 200, None)
            tracing.leave(attached)
        waiting, _ = tracemalloc.get_traced_memory()
        assert exporter.flush(10)
        sent, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert waiting < 8_000_000
    assert sent < 1_000_000


def test_the_server_span_of_an_instrumentation_has_the_ids_that_are_told_already() -> None:
    exporter = SpanExporter(lambda: lambda *_: None, b"")
    tracer = DirectTracerProvider(pipeline_to(exporter)).get_tracer("test")
    tracing = InstrumentedTracing(read_sampling("always_on", ""))
    request, scope = request_of()
    _, attached = tracing.enter(request, None, scope, {})
    with tracer.start_as_current_span("other") as other:
        pass
    with tracer.start_as_current_span("server", kind=SpanKind.SERVER) as server:
        with tracer.start_as_current_span("below", kind=SpanKind.SERVER) as below:
            pass
    again = tracer.start_span("server", otel_context.Context(), SpanKind.SERVER)
    tracing.leave(attached)

    ids = server.get_span_context()
    assert (f"{ids.trace_id:032x}", f"{ids.span_id:016x}") == (TRACE, SPAN)
    assert len({each.get_span_context().span_id for each in (other, server, below, again)}) == 4
