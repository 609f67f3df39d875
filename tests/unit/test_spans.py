"""The tracer without an SDK, held against OpenTelemetry's SDK: the same calls, the same spans."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, SpanKind, StatusCode, TraceFlags

from tests.unit.test_otlp import dict_of
from tidegate import otlp
from tidegate.export import Batching, RefusedError, RetryError, SpanExporter
from tidegate.otel_environment import Limits
from tidegate.sampling import read_sampling
from tidegate.scrub import Scrubber
from tidegate.spans import DirectTracerProvider, Pipeline
from tidegate.traces import unrecorded

REMOTE = SpanContext(0x1234 << 64, 0x5678, True, TraceFlags(1), trace.TraceState([("a", "b")]))


def direct(
    sampler: str = "always_on", *, limits: Limits | None = None, exception_text: bool = False
) -> tuple[trace.Tracer, Callable[[], list[Span]]]:
    """A tracer, and what it sent."""
    sent: list[bytes] = []
    exporter = SpanExporter(lambda: lambda request, _: sent.append(request), otlp.resource({}))
    pipeline = Pipeline(
        exporter,
        read_sampling(sampler, ""),
        limits or Limits(),
        Scrubber(),
        exception_text=exception_text,
    )

    def spans() -> list[Span]:
        assert exporter.flush(10)
        return [
            span
            for request in map(ExportTraceServiceRequest.FromString, sent)
            for scope in request.resource_spans[0].scope_spans
            for span in scope.spans
        ]

    return DirectTracerProvider(pipeline).get_tracer("test", "1"), spans


def official() -> tuple[trace.Tracer, Callable[[], list[Span]]]:
    """The SDK's tracer, and what its exporter would send."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))

    def spans() -> list[Span]:
        request = encode_spans(memory.get_finished_spans())
        return list(request.resource_spans[0].scope_spans[0].spans)

    return provider.get_tracer("test", "1"), spans


class Encoded:
    """A span that needs no tracer."""

    scope = b""

    def encode(self) -> bytes:
        return b""


def do_everything(tracer: trace.Tracer) -> None:
    """Use the whole API of a span."""
    with tracer.start_as_current_span(
        "outer",
        context=trace.set_span_in_context(trace.NonRecordingSpan(REMOTE)),
        kind=SpanKind.CONSUMER,
        attributes={"text": "ü", "number": 1, "half": 0.5, "yes": True, "many": ["a", "b"]},
        links=[trace.Link(REMOTE, {"why": "because"})],
        start_time=1_000,
    ) as outer:
        outer.set_attributes({"later": -1, "number": 2})
        outer.add_event("happened", {"how": "so"}, 1_500)
        with tracer.start_as_current_span("inner", kind=SpanKind.CLIENT) as inner:
            assert trace.get_current_span() is inner
            inner.update_name("renamed")
            inner.set_status(StatusCode.ERROR)
            inner.set_status(StatusCode.OK)
            inner.set_status(StatusCode.ERROR)
        outer.set_status(StatusCode.UNSET)
    try:
        with tracer.start_as_current_span("failed"):
            raise KeyError("x")
    except KeyError:
        pass
    ended = tracer.start_span("ended")
    ended.end()
    ended.set_attribute("too", "late")
    ended.add_event("too late")
    ended.end()


def describe(span: Span) -> dict[str, Any]:
    return {
        "name": span.name,
        "kind": span.kind,
        "attributes": dict_of(span.attributes),
        # Texts and stacks of exceptions are told apart on purpose.
        "events": [
            (each.name, sorted(set(dict_of(each.attributes)) - _OF_EXCEPTIONS))
            for each in span.events
        ],
        "links": [
            (
                each.trace_id,
                each.span_id,
                dict_of(each.attributes),
                each.flags & ~0xFF,
            )
            for each in span.links
        ],
        "status": span.status.code,
        "state": span.trace_state,
        # The SDK leaves out the lower byte, where OTLP wants W3C's own flags.
        "flags": span.flags & ~0xFF,
        "parent": bool(span.parent_span_id),
        "remote": span.parent_span_id == REMOTE.span_id.to_bytes(8, "big"),
        "trace": span.trace_id == REMOTE.trace_id.to_bytes(16, "big"),
    }


_OF_EXCEPTIONS = {"exception.message", "exception.stacktrace", "exception.escaped"}


def test_the_same_calls_make_the_same_spans_as_the_sdk() -> None:
    (ours, our_spans), (theirs, their_spans) = direct(), official()

    do_everything(ours)
    do_everything(theirs)

    assert [describe(each) for each in our_spans()] == [describe(each) for each in their_spans()]
    assert len(our_spans()) == 4


def test_a_decorated_coroutine_is_a_span_while_it_runs() -> None:
    tracer, spans = direct()

    @tracer.start_as_current_span("work")
    async def work() -> bool:
        await asyncio.sleep(0)
        return trace.get_current_span().is_recording()

    assert asyncio.run(work())
    assert [each.name for each in spans()] == ["work"]


def test_below_a_span_that_is_not_sampled_nothing_is_recorded() -> None:
    tracer, spans = direct("parentbased_always_on")
    parent = SpanContext(1, 2, True, TraceFlags(0))
    with tracer.start_as_current_span(
        "root", context=trace.set_span_in_context(trace.NonRecordingSpan(parent))
    ) as span:
        assert not span.is_recording()
        assert span.get_span_context().trace_id == 1
        with tracer.start_as_current_span("child") as child:
            child.set_attribute("a", 1)
            assert child.get_span_context().trace_id == 1
    assert spans() == []


def test_past_its_limits_a_span_counts_what_it_drops() -> None:
    limits = Limits(attributes=2, events=1, links=1, value_length=3)
    tracer, spans = direct(limits=limits)
    with tracer.start_as_current_span("full") as span:
        span.set_attributes({"a": "long text", "b": 2, "c": 3, "d": 4})
        for _ in range(3):
            span.add_event("again", {"x": 1, "y": 2, "z": 3})
            span.add_link(REMOTE)

    (read,) = spans()
    assert dict_of(read.attributes) == {"a": "lon", "b": 2}
    counts = read.dropped_attributes_count, read.dropped_events_count, read.dropped_links_count
    assert counts == (2, 2, 2)
    assert read.events[0].dropped_attributes_count == 1


@pytest.mark.parametrize("exception_text", [False, True])
def test_the_text_of_an_exception_leaves_only_when_settings_allow(exception_text: bool) -> None:
    tracer, spans = direct(exception_text=exception_text)
    with pytest.raises(ValueError, match="canary"):
        with tracer.start_as_current_span("failed"):
            raise ValueError("the canary at https://user:secret@host/?token=secret")

    assert (b"canary" in spans()[0].SerializeToString()) is exception_text
    assert b"secret" not in spans()[0].SerializeToString()
    (event,) = spans()[0].events
    assert dict_of(event.attributes)["exception.type"] == "ValueError"
    assert "test_spans.py" in dict_of(event.attributes)["exception.stacktrace"]


def test_attributes_of_instrumentations_lose_their_secrets() -> None:
    tracer, spans = direct()
    with tracer.start_as_current_span("GET") as span:
        span.set_attributes(
            {
                "url.full": "https://u:canary@host/path?token=canary",
                "url.query": "token=canary",
                "http.target": "/path?canary",
                "password": "canary",
            }
        )
    assert b"canary" not in spans()[0].SerializeToString()


def test_names_of_spans_and_of_events_lose_their_secrets() -> None:
    tracer, spans = direct()
    with tracer.start_as_current_span("GET /x?token=canary") as span:
        span.add_event("password=canary", {"a": 1})
        span.update_name("GET https://u:canary@host/")
    assert b"canary" not in spans()[0].SerializeToString()
    assert spans()[0].events[0].name.startswith("password=")


def test_nobody_puts_the_text_of_an_exception_back() -> None:
    tracer, spans = direct()
    texts: dict[str, str | int] = {
        "exception.message": "canary",
        "exception.stacktrace": "canary",
        "kept": 1,
    }
    with tracer.start_as_current_span("failed") as span:
        span.record_exception(ValueError("canary"), texts)
        span.add_event("exception", texts)
    (span_sent,) = spans()
    assert b"canary" not in span_sent.SerializeToString()
    assert [dict_of(each.attributes)["kept"] for each in span_sent.events] == [1, 1]


def test_a_recursion_is_told_by_its_innermost_frames() -> None:
    tracer, spans = direct()

    def recurse() -> None:
        recurse()

    with pytest.raises(RecursionError), tracer.start_as_current_span("failed"):
        recurse()
    (event,) = spans()[0].events
    assert dict_of(event.attributes)["exception.stacktrace"].count("in recurse") == 50


def test_a_key_that_is_no_string_is_all_that_is_lost() -> None:
    tracer, spans = direct()
    with tracer.start_as_current_span("odd") as span:
        span.set_attribute(7, "x")  # type: ignore[arg-type]
        span.set_attribute("a", "b")
        span.add_event("odd", {7: "x", "a": "b"})  # type: ignore[dict-item]
    (read,) = spans()
    assert dict_of(read.attributes) == dict_of(read.events[0].attributes) == {"a": "b"}


def test_members_of_a_list_are_cut_as_well() -> None:
    tracer, spans = direct(limits=Limits(value_length=3))
    with tracer.start_as_current_span("long") as span:
        span.set_attribute("many", ["long text", "ab"])
    assert dict_of(spans()[0].attributes) == {"many": ["lon", "ab"]}


def test_an_instrumentation_can_ask_what_kind_of_span_is_the_current_one() -> None:
    tracer, _ = direct()
    for kind in SpanKind:
        with tracer.start_as_current_span("asked", kind=kind):
            assert getattr(trace.get_current_span(), "kind") is kind  # noqa: B009 - the SDK's


async def test_a_check_is_unrecorded_whatever_the_sampler_says() -> None:
    tracer, spans = direct("always_on")

    async def check() -> None:
        with tracer.start_as_current_span("check"):
            pass

    await unrecorded(check)()
    await check()
    assert len(spans()) == 1


def test_a_full_queue_drops_spans_and_counts_them() -> None:
    hold, sent = threading.Event(), threading.Event()

    def post(_: bytes, __: float) -> None:
        sent.set()
        hold.wait(10)

    exporter = SpanExporter(lambda: post, b"", Batching(max_queue=4, max_batch=2))
    exporter.add(Encoded())
    exporter.add(Encoded())
    assert sent.wait(10)
    for _ in range(6):
        exporter.add(Encoded())

    assert exporter.dropped == 2
    hold.set()
    assert exporter.flush(10)
    assert (exporter.sent, exporter.dropped) == (6, 2)


def test_what_the_collector_refuses_is_lost_and_counted_and_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def post(_: bytes, __: float) -> None:
        raise RefusedError("HTTP 400")

    exporter = SpanExporter(lambda: post, b"", Batching(max_batch=1))
    for _ in range(5):
        exporter.add(Encoded())
        assert exporter.flush(10)

    assert (exporter.sent, exporter.dropped) == (0, 5)
    assert [each.getMessage() for each in caplog.records] == [
        "The OpenTelemetry collector did not take 1 spans (HTTP 400); 1 are lost so far. "
        "Requests are not affected; see OTEL_EXPORTER_OTLP_ENDPOINT"
    ]


def test_a_collector_that_is_busy_is_asked_again() -> None:
    answers = [RetryError("HTTP 503", 0.01), RetryError("HTTP 429", 0.01), None]

    def post(_: bytes, __: float) -> None:
        if answer := answers.pop(0):
            raise answer

    exporter = SpanExporter(lambda: post, b"", Batching(max_batch=1))
    exporter.add(Encoded())
    assert exporter.flush(10)
    assert (exporter.sent, exporter.dropped, answers) == (1, 0, [])


def test_a_flush_ends_in_time_though_the_collector_never_answers() -> None:
    hold = threading.Event()

    def post(_: bytes, __: float) -> None:
        hold.wait(20)

    exporter = SpanExporter(lambda: post, b"", Batching(max_batch=1))
    exporter.add(Encoded())
    assert not exporter.flush(0.2)
    hold.set()
