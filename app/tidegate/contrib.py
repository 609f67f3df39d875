"""The backend ``contrib``: OpenTelemetry's SDK and its FastAPI instrumentation, used for real.

Only sampled requests go through its middleware; the decision is the hook's. Imported only when
TIDEGATE_TRACES_BACKEND says so.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import Link
from opentelemetry.trace.status import Status
from starlette.types import ASGIApp

from tidegate.ids import new_ids
from tidegate.otel_environment import TracesEnvironment
from tidegate.sampling import Sampling
from tidegate.scrub import Scrubber
from tidegate.spans import expect_server_span, expected_ids
from tidegate.tracing import InstrumentedTracing, is_instrumented


def make_provider(
    environment: TracesEnvironment, scrubber: Scrubber, *, exception_text: bool
) -> tuple[TracerProvider, ScrubbingExporter]:
    """Make the SDK's provider, and its exporter.

    Sampler, limits and batches it reads from ``OTEL_*`` by itself.
    """
    # Before the instrumentation is asked for the first time: the stable names are ours as well.
    os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
    # Not on exit: Tidegate flushes, and the SDK would wait half a minute for a silent collector.
    provider = TracerProvider(
        resource=Resource.create(), id_generator=_RequestIds(), shutdown_on_exit=False
    )
    exporter = ScrubbingExporter(_exporter(environment), scrubber, exception_text=exception_text)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider, exporter


def _exporter(environment: TracesEnvironment) -> SpanExporter:
    # Read already: the SDK's own reading logs a header that it does not understand.
    headers = dict(environment.endpoint.headers) or None
    if environment.endpoint.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (
            OTLPSpanExporter as GrpcExporter,
        )

        return GrpcExporter(headers=headers and {name.lower(): headers[name] for name in headers})
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (
        OTLPSpanExporter as HttpExporter,
    )

    return HttpExporter(headers=headers)


class ContribTracing(InstrumentedTracing):
    """Lets the instrumentation make the spans of sampled requests."""

    def __init__(self, provider: TracerProvider, sampling: Sampling) -> None:
        super().__init__(sampling)
        self._provider = provider

    def wrap(self, app: FastAPI, stack: ASGIApp) -> ASGIApp:
        """Return the application's middleware stack inside the instrumentation's middleware."""
        if is_instrumented(app, stack):
            return stack
        ours = app.build_middleware_stack
        # It wraps whatever this returns: the one stack that there is, not a second one.
        app.build_middleware_stack = lambda: stack  # type: ignore[method-assign]
        # It may be said already, by one that came after Tidegate and found no stack to wrap.
        app._is_instrumented_by_opentelemetry = False  # type: ignore[attr-defined]
        FastAPIInstrumentor.instrument_app(
            app, tracer_provider=self._provider, exclude_spans=["receive", "send"]
        )
        wrapped = app.build_middleware_stack()
        app.build_middleware_stack = ours  # type: ignore[method-assign]
        return wrapped


class _RequestIds(IdGenerator):
    """Gives the server span the ids that the hook has put into logs and headers already."""

    def generate_trace_id(self) -> int:
        """Return the request's trace id, or a new one."""
        ids = expected_ids()
        return int(ids[0] if ids else new_ids()[:32], 16) or 1

    def generate_span_id(self) -> int:
        """Return the request's span id for the first span in it, or a new one."""
        ids = expected_ids()
        parent = trace.get_current_span().get_span_context()
        if ids and (not parent.is_valid or parent.is_remote):
            expect_server_span(None)
            return int(ids[1], 16)
        return int(new_ids()[32:], 16) or 1


class ScrubbingExporter(SpanExporter):
    """Takes secrets out of spans that the SDK and its instrumentations have made."""

    def __init__(self, exporter: SpanExporter, scrubber: Scrubber, *, exception_text: bool) -> None:
        self._exporter = exporter
        self._scrubber = scrubber
        self._exception_text = exception_text
        self.sent = 0
        """Spans that the collector took."""
        self.dropped = 0
        """Spans that it did not; those that the SDK's full queue left out are not among them."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send scrubbed copies."""
        result = self._exporter.export([self._scrub(span) for span in spans])
        if result is SpanExportResult.SUCCESS:
            self.sent += len(spans)
        else:
            self.dropped += len(spans)
        return result

    def shutdown(self) -> None:
        """End the exporter."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flush the exporter."""
        return self._exporter.force_flush(timeout_millis)

    def _scrub(self, span: ReadableSpan) -> ReadableSpan:
        return ReadableSpan(
            name=self._scrubber.text(span.name),
            context=span.context,
            parent=span.parent,
            resource=span.resource,
            attributes=self._scrubber.mapping(span.attributes or {}),
            events=[self._event(event) for event in span.events],
            links=[
                Link(link.context, self._scrubber.mapping(link.attributes or {}))
                for link in span.links
            ],
            kind=span.kind,
            # A description is nearly always the text of an exception.
            status=span.status if self._exception_text else Status(span.status.status_code),
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )

    def _event(self, event: Event) -> Event:
        attributes: Mapping[str, object] = event.attributes or {}
        if not self._exception_text:
            # The stack of the SDK ends with the exception's text.
            withheld = {"exception.message", "exception.stacktrace"}
            attributes = {key: each for key, each in attributes.items() if key not in withheld}
        name = self._scrubber.text(event.name)
        return Event(name, self._scrubber.mapping(attributes), event.timestamp)
