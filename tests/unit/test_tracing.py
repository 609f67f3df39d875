"""A server span says what the client sent as far as it is sound, and never spoils its batch."""

from __future__ import annotations

import logging

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry import baggage, trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.trace import TraceState

from tests.sinks.spans import Span, read_spans
from tidegate import otlp, traces
from tidegate.context import RequestContext
from tidegate.export import SpanExporter
from tidegate.otel_environment import Limits
from tidegate.routes import NO_ROUTE
from tidegate.sampling import read_sampling
from tidegate.scrub import Scrubber
from tidegate.settings import Settings
from tidegate.spans import Pipeline
from tidegate.tracing import DirectTracing

TRACE, SPAN, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "b7ad6b7169203331"
CANARY = "c4n4ry-7f3a"

# All that a server lets through in the value of a header.
header_values = st.binary(max_size=60).map(lambda value: value.translate(None, b"\r\n\0"))
hosts = st.one_of(header_values, st.from_regex(rb"[a-z.\[\]:]*:[0-9\xb2\xb9]*", fullmatch=True))


def traced(headers: dict[bytes, bytes], path: str = "/", method: str = "GET") -> Span:
    """The span of one request, as the collector would read it."""
    sent: list[bytes] = []
    exporter = SpanExporter(lambda: lambda request, _: sent.append(request), otlp.resource({}))
    pipeline = Pipeline(
        exporter, read_sampling("always_on", ""), Limits(), Scrubber(), exception_text=False
    )
    tracing = DirectTracing(pipeline)
    scope = {"type": "http", "method": method, "path": path, "scheme": "http", "client": None}
    request = RequestContext("req-1", TRACE, SPAN, True)
    entered = tracing.enter(request, CALLER, scope, headers)
    tracing.leave(entered, scope, headers, NO_ROUTE, 200, None)
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
