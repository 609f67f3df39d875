"""The back ends tell the truth: what the official SDK sends is what they say they received."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as over_grpc
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http import trace_exporter as over_http
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import TraceState

from tests.sinks.collector import Collector
from tests.sinks.otlp_sink import GARBAGE, SILENCE, Answer, OtlpSink, refuse, slow
from tests.sinks.spans import Span

BackEnd = Collector | OtlpSink
Connect = Callable[..., SpanExporter]

ELSEWHERE = SpanContext(
    trace_id=0x0AF7651916CD43DD8448EB211C80319C,
    span_id=0x00F067AA0BA902B7,
    is_remote=True,
    trace_flags=TraceFlags(TraceFlags.SAMPLED),
    trace_state=TraceState([("vendor", "value")]),
)


def connect_http(back_end: BackEnd, timeout: float = 10) -> SpanExporter:
    url = f"{back_end.http}/v1/traces"
    return over_http.OTLPSpanExporter(url, timeout=timeout, compression=Compression.Gzip)


def connect_grpc(back_end: BackEnd, timeout: float = 10) -> SpanExporter:
    return over_grpc.OTLPSpanExporter(back_end.grpc, insecure=True, timeout=timeout)


either_way = pytest.mark.parametrize("connect", [connect_http, connect_grpc])


def two_spans() -> tuple[ReadableSpan, ...]:
    """A server span that uses everything a span can hold, and its child."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "orders"}))
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("tests", "1.2.3")
    parent = trace.set_span_in_context(trace.NonRecordingSpan(ELSEWHERE))
    with tracer.start_as_current_span(
        "GET /orders/{order_id}",
        context=parent,
        kind=SpanKind.SERVER,
        links=[Link(ELSEWHERE, {"why": "a retry"})],
    ) as server:
        server.set_attributes({"text": "ü", "whole": 2**40, "half": 0.5, "yes": True})
        server.set_attribute("many", ["a", "b"])
        server.add_event("looked up", {"rows": 3}, timestamp=1_700_000_000_123_456_789)
        with tracer.start_as_current_span("SELECT orders", kind=SpanKind.CLIENT):
            pass
        server.set_status(Status(StatusCode.ERROR, "it broke"))
    provider.shutdown()
    return memory.get_finished_spans()


@either_way
def test_all_that_the_sdk_sends_is_read_from_the_collector_and_the_sink_alike(
    connect: Connect, collector: Collector, otlp_sink: OtlpSink
) -> None:
    sent = two_spans()
    for back_end in (collector, otlp_sink):
        exporter = connect(back_end)
        assert exporter.export(sent) is SpanExportResult.SUCCESS
        exporter.shutdown()
    child, server = collector.until(lambda spans: len(spans) == 2)
    assert (child, server) == tuple(otlp_sink.spans())
    assert server == Span(
        name="GET /orders/{order_id}",
        trace_id="0af7651916cd43dd8448eb211c80319c",
        span_id=format(sent[1].context.span_id, "016x"),
        parent_span_id="00f067aa0ba902b7",
        kind="server",
        start=sent[1].start_time or 0,
        end=sent[1].end_time or 0,
        attributes={
            "text": "ü",
            "whole": 2**40,
            "half": 0.5,
            "yes": True,
            "many": ("a", "b"),
        },
        events=server.events,
        links=server.links,
        status="error",
        status_message="it broke",
        trace_state="vendor=value",
        dropped=(0, 0, 0),
        scope="tests",
        scope_version="1.2.3",
        resource=server.resource,
    )
    (event,), (link,) = server.events, server.links
    assert (event.name, event.attributes, event.time) == (
        "looked up",
        {"rows": 3},
        1_700_000_000_123_456_789,
    )
    assert (link.trace_id, link.span_id, link.attributes) == (
        server.trace_id,
        server.parent_span_id,
        {"why": "a retry"},
    )
    assert server.resource["service.name"] == "orders"
    assert (child.name, child.kind, child.status) == ("SELECT orders", "client", "unset")
    assert (child.trace_id, child.parent_span_id) == (server.trace_id, server.span_id)


def test_whatever_was_sent_is_in_the_raw_text_of_the_collector(collector: Collector) -> None:
    connect_http(collector).export(two_spans())
    collector.until(lambda spans: len(spans) == 2)
    assert "it broke" in collector.raw()
    assert "canary" not in collector.raw()


def test_a_span_that_never_comes_is_an_error_that_names_those_that_did(
    collector: Collector, otlp_sink: OtlpSink
) -> None:
    for back_end in (collector, otlp_sink):
        connect_http(back_end).export(two_spans())
        back_end.until(lambda spans: len(spans) == 2)
        with pytest.raises(AssertionError, match=r"has \['SELECT orders', 'GET /orders"):
            back_end.until(lambda spans: len(spans) == 3, timeout=0.1)


@either_way
@pytest.mark.parametrize("answer", [SILENCE, refuse(429, 30), refuse(503), refuse(400)])
def test_a_fault_fails_the_export_and_keeps_nothing(
    answer: Answer, connect: Connect, otlp_sink: OtlpSink
) -> None:
    otlp_sink.answer = answer
    assert connect(otlp_sink, timeout=0.5).export(two_spans()) is SpanExportResult.FAILURE
    assert [span.name for span in otlp_sink.until_asked()[0].spans] == [
        "SELECT orders",
        "GET /orders/{order_id}",
    ]
    assert otlp_sink.spans() == []


@either_way
def test_a_slow_answer_is_waited_for(connect: Connect, otlp_sink: OtlpSink) -> None:
    otlp_sink.answer = slow(0.3)
    begun = time.monotonic()
    assert connect(otlp_sink).export(two_spans()) is SpanExportResult.SUCCESS
    assert time.monotonic() - begun > 0.3
    assert len(otlp_sink.spans()) == 2


def test_garbage_is_refused_by_a_client_that_reads_the_answer(otlp_sink: OtlpSink) -> None:
    otlp_sink.answer = GARBAGE
    # Over HTTP the SDK does not look at the body of a 200.
    assert connect_grpc(otlp_sink, timeout=0.5).export(two_spans()) is SpanExportResult.FAILURE


@either_way
def test_retry_after_is_heard_by_the_sdk(connect: Connect, otlp_sink: OtlpSink) -> None:
    otlp_sink.answer = refuse(503, retry_after=2)
    connect(otlp_sink, timeout=3).export(two_spans())
    first, second = otlp_sink.attempts()
    assert second.at - first.at > 1.9  # without it the SDK waits 1.2 s at most


@either_way
def test_a_sink_that_was_down_comes_back_on_the_same_port(
    connect: Connect, otlp_sink: OtlpSink
) -> None:
    exporter = connect(otlp_sink, timeout=2)
    assert exporter.export(two_spans()) is SpanExportResult.SUCCESS
    otlp_sink.down()  # the connection that is open by now as well
    assert exporter.export(two_spans()) is SpanExportResult.FAILURE
    assert len(otlp_sink.spans()) == 2
    otlp_sink.up()
    assert exporter.export(two_spans()) is SpanExportResult.SUCCESS
    assert len(otlp_sink.spans()) == 4


def test_a_black_hole_takes_everything_and_never_answers(black_hole: str) -> None:
    host, _, port = black_hole.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=1) as connection:
        connection.sendall(b"POST /v1/traces HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1)
    begun = time.monotonic()
    exporter = over_grpc.OTLPSpanExporter(black_hole, insecure=True, timeout=0.5)
    assert exporter.export(two_spans()) is SpanExportResult.FAILURE
    assert time.monotonic() - begun < 3
