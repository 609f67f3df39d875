"""Turns tracing on as the environment says, once for a process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, Protocol

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY as SUPPRESSED
from starlette.types import ASGIApp

from tidegate import otlp
from tidegate.collector import connect
from tidegate.context import RequestContext
from tidegate.export import SpanExporter
from tidegate.health import Check
from tidegate.otel_environment import TracesEnvironment, read_traces, traces_wanted
from tidegate.scrub import Scrubber
from tidegate.settings import Settings, SettingsError
from tidegate.spans import DirectTracerProvider, Pipeline, UnsampledSpan
from tidegate.traceparent import Parent
from tidegate.tracing import (
    DirectTracing,
    Headers,
    InstrumentedTracing,
    Tracing,
    is_instrumented,
    parent_of,
)

if TYPE_CHECKING:
    from fastapi import FastAPI
    from sqlalchemy.ext.asyncio import AsyncEngine

logger = logging.getLogger("tidegate")

_NEEDS: Final = {
    "grpc": ("grpc",),
    "contrib": ("opentelemetry.sdk", "opentelemetry.instrumentation.fastapi"),
}

_SQL: Final = "opentelemetry.instrumentation.sqlalchemy"

# Their warnings repeat a header that a client sent, or one for the collector with its key.
_QUOTING: Final = ("opentelemetry.baggage", "opentelemetry.trace.span", "opentelemetry.util.re")


class Counts(Protocol):
    """What became of the spans."""

    sent: int
    dropped: int


@dataclass(frozen=True, slots=True)
class Traces:
    """What tracing there is in this process."""

    tracing: Tracing | None = None
    """The backend that the hook uses; ``None`` where somebody else makes the spans, or nobody."""
    foreign: bool = False
    """Somebody else has set a TracerProvider: the hook takes over its ids."""
    exporter: Counts | None = None
    """What sends the backend's spans."""
    read_parent: Callable[[Headers], Parent | None] | None = None
    """Finds the caller's span where ``OTEL_PROPAGATORS`` names more than W3C's ``traceparent``."""

    @property
    def exist(self) -> bool:
        """Whether anybody makes spans in this process."""
        return self.tracing is not None or self.foreign

    def of(self, app: FastAPI, stack: ASGIApp) -> Tracing | None:
        """Return the backend for an application, once its middleware is known.

        One that OpenTelemetry's own middleware stands around gets its server spans from there.
        """
        if isinstance(self.tracing, DirectTracing) and is_instrumented(app, stack):
            return InstrumentedTracing(self.tracing.sampling)
        return self.tracing

    def flush(self, timeout: float) -> bool:
        """Send what is queued; return whether that was done within ``timeout`` seconds."""
        if self.tracing is None:
            return True
        provider = trace.get_tracer_provider()
        return bool(getattr(provider, "force_flush")(int(timeout * 1000)))  # noqa: B009 - SDK's


_own: Traces | None = None


def install(settings: Settings, scrubber: Scrubber) -> Traces:
    """Return the process's tracing; the first call decides.

    Raises:
        SettingsError: an ``OTEL_*`` variable has a value that is not allowed, or a package that
            it needs is not installed.
    """
    global _own
    if _own is not None:
        return _own
    for name in _QUOTING:
        logging.getLogger(name).setLevel(logging.ERROR)
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        logger.info("A TracerProvider is set already: Tidegate makes no spans of its own")
        return Traces(foreign=True)
    if settings.traces_backend == "off" or not traces_wanted():
        return Traces()
    environment = read_traces()
    _require(environment.endpoint.protocol)
    read_parent = None if environment.w3c_only else parent_of
    if settings.traces_backend == "contrib":
        _require("contrib")
        from tidegate.contrib import ContribTracing, make_provider

        provider, exporter = make_provider(
            environment, scrubber, exception_text=settings.exception_text
        )
        trace.set_tracer_provider(provider)
        tracing: Tracing = ContribTracing(provider, environment.sampling)
        _own = Traces(tracing, exporter=exporter, read_parent=read_parent)
    else:
        pipeline = _pipeline(environment, settings, scrubber)
        trace.set_tracer_provider(DirectTracerProvider(pipeline))
        tracing = DirectTracing(pipeline, w3c_only=environment.w3c_only)
        _own = Traces(tracing, exporter=pipeline.exporter, read_parent=read_parent)
    return _own


def unrecorded(check: Check) -> Check:
    """Return the check with what it asks of a database left out of all traces."""

    context = trace.set_span_in_context(UnsampledSpan("f" * 32, "f" * 16))
    # The span is for a sampler that asks its parent; this for all others, and instrumentations.
    context = otel_context.set_value(SUPPRESSED, True, context)

    async def run() -> object:
        token = otel_context.attach(context)
        try:
            return await check()
        finally:
            otel_context.detach(token)

    return run


def adopt(request: RequestContext) -> None:
    """Take over the ids of the span that somebody else's instrumentation made current."""
    span = trace.get_current_span()
    ids = span.get_span_context()
    # While an answer is sent, a span for just that may be the current one, below the server's.
    if getattr(span, "kind", None) is trace.SpanKind.INTERNAL:
        ids = getattr(span, "parent", None) or ids
    if ids.is_valid:
        request.trace_id = f"{ids.trace_id:032x}"
        request.span_id = f"{ids.span_id:016x}"
        request.sampled = ids.trace_flags.sampled


def instrument_engine(engine: AsyncEngine) -> None:
    """Let every statement be a span; without tidegate[traces], nothing."""
    if find_spec("opentelemetry.instrumentation.sqlalchemy") is None:
        return
    from opentelemetry.instrumentation.sqlalchemy.engine import EngineTracer
    from opentelemetry.metrics import get_meter

    watched = engine.sync_engine
    if any(each() is watched for each, *_ in EngineTracer._remove_event_listener_params):
        return
    # Not SQLAlchemyInstrumentor: it takes one engine for a process, refuses SQLAlchemy 2.1, and
    # leaves nothing for the application's own call to do.
    usage = get_meter(_SQL).create_up_down_counter("db.client.connections.usage", "connections")
    EngineTracer(trace.get_tracer(_SQL), watched, usage)  # type: ignore[no-untyped-call]


def _pipeline(environment: TracesEnvironment, settings: Settings, scrubber: Scrubber) -> Pipeline:
    exporter = SpanExporter(
        lambda: connect(environment.endpoint),
        otlp.resource(environment.resource),
        environment.batching,
    )
    return Pipeline(
        exporter,
        environment.sampling,
        environment.limits,
        scrubber,
        exception_text=settings.exception_text,
    )


def _require(what: str) -> None:
    for package in _NEEDS.get(what, ()):
        try:
            found = find_spec(package)
        except ModuleNotFoundError:  # not even what it is part of
            found = None
        if found is None:
            raise SettingsError(
                f"OTEL_EXPORTER_OTLP_ENDPOINT is set, but {package} is not installed; "
                "install tidegate[traces], or set TIDEGATE_TRACES_BACKEND=off"
            )
