"""OpenTelemetry's tracing API on the shortest way to OTLP.

A TracerProvider that holds a span in a few plain fields and writes it as OTLP when it ends. Child
spans of instrumented libraries are made here as well, so that a trace needs no SDK: importing that
alone takes longer than starting the service.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY as SUPPRESSED
from opentelemetry.trace.status import Status, StatusCode
from opentelemetry.util import types
from opentelemetry.util._decorator import _agnosticcontextmanager  # what the API itself returns

from tidegate import otlp
from tidegate.exceptions import type_name
from tidegate.export import SpanExporter
from tidegate.ids import new_ids
from tidegate.otel_environment import Limits
from tidegate.sampling import Sampling
from tidegate.scrub import Scrubber

_SAMPLED: Final = trace.TraceFlags(trace.TraceFlags.SAMPLED)
_NOT_SAMPLED: Final = trace.TraceFlags(trace.TraceFlags.DEFAULT)
_NO_STATE: Final = trace.TraceState()

# OTLP's flags: the caller's of W3C, then whether it is known, and so, that the parent is remote.
_LOCAL_PARENT: Final = 0x101
_REMOTE_PARENT: Final = 0x301

_KINDS: Final = {
    trace.SpanKind.INTERNAL: 1,
    trace.SpanKind.SERVER: 2,
    trace.SpanKind.CLIENT: 3,
    trace.SpanKind.PRODUCER: 4,
    trace.SpanKind.CONSUMER: 5,
}
_KIND_OF: Final = {number: kind for kind, number in _KINDS.items()}
SERVER: Final = 2

_MOST_FRAMES: Final = 50  # the innermost; a recursion has thousands
# Either may quote what a client sent, and a stack ends with the exception's text.
_TEXTS: Final = frozenset({"exception.message", "exception.stacktrace"})

Known = Callable[[Any], tuple[bytes, dict[str, bytes]]]
"""Makes a span's name with its kind, and attributes by their names, all encoded, of plain data."""

_expected: ContextVar[tuple[str, str] | None] = ContextVar("tidegate_expected_ids", default=None)


def expect_server_span(ids: tuple[str, str] | None) -> None:
    """Give the next span without a local parent these ids (trace, span): they are told already.

    For requests whose server span an instrumentation makes; ``None`` expects nothing any more.
    """
    _expected.set(ids)


def expected_ids() -> tuple[str, str] | None:
    """Return the ids that the next server span is to have."""
    return _expected.get()


class Pipeline:
    """What all spans of a process share on their way out."""

    __slots__ = ("exception_text", "exporter", "limits", "sampling", "scrubber")

    def __init__(
        self,
        exporter: SpanExporter,
        sampling: Sampling,
        limits: Limits,
        scrubber: Scrubber,
        *,
        exception_text: bool,
    ) -> None:
        self.exporter = exporter
        self.sampling = sampling
        self.limits = limits
        self.scrubber = scrubber
        self.exception_text = exception_text


class UnsampledSpan(trace.NonRecordingSpan):
    """Stands for what is not recorded: libraries below it must not begin a trace of their own.

    Its context is made when somebody asks for it; for most requests nobody does.
    """

    __slots__ = ("_ids", "_made", "_state")

    def __init__(self, trace_id: str, span_id: str, state: trace.TraceState = _NO_STATE) -> None:
        self._ids = (trace_id, span_id)
        self._state = state
        self._made: trace.SpanContext | None = None

    def get_span_context(self) -> trace.SpanContext:
        """Return the ids, as not sampled."""
        if self._made is None:
            trace_id, span_id = self._ids
            self._made = trace.SpanContext(
                int(trace_id, 16), int(span_id, 16), False, _NOT_SAMPLED, self._state
            )
        return self._made


class DirectSpan(trace.Span):
    """A span that is recorded."""

    __slots__ = (
        "_attributes",
        "_context",
        "_dropped",
        "_end",
        "_ended",
        "_events",
        "_flags",
        "_kind",
        "_known",
        "_links",
        "_name",
        "_parent_id",
        "_pipeline",
        "_said",
        "_scope",
        "_span_id",
        "_start",
        "_state",
        "_status",
        "_trace_id",
    )

    def __init__(
        self,
        pipeline: Pipeline,
        scope: bytes,
        name: str,
        kind: int,
        trace_id: str,
        span_id: str,
        parent_id: str | None,
        *,
        remote: bool,
        start: int,
        state: trace.TraceState = _NO_STATE,
    ) -> None:
        self._pipeline = pipeline
        self._scope = scope
        self._name = name
        self._kind = kind
        self._trace_id = trace_id
        self._span_id = span_id
        self._parent_id = parent_id
        self._flags = _REMOTE_PARENT if remote else _LOCAL_PARENT
        self._start = start
        self._state = state
        self._context: trace.SpanContext | None = None
        self._attributes: dict[str, types.AttributeValue] | None = None
        self._events: list[bytes] | None = None
        self._links: list[bytes] | None = None
        self._dropped: list[int] | None = None  # attributes, events, links
        self._status: tuple[int, str] | None = None
        self._ended = False

    @property
    def kind(self) -> trace.SpanKind:
        """As the SDK's: instrumentations read it of whatever span is the current one."""
        return _KIND_OF[self._kind]

    @property
    def name(self) -> str:
        """What it was called last; empty for a server span until the request is over."""
        return self._name

    def get_span_context(self) -> trace.SpanContext:
        """Return the ids, as sampled."""
        if self._context is None:
            self._context = trace.SpanContext(
                int(self._trace_id, 16), int(self._span_id, 16), False, _SAMPLED, self._state
            )
        return self._context

    def is_recording(self) -> bool:
        """Whether the span has not ended."""
        return not self._ended

    def set_attributes(self, attributes: Mapping[str, types.AttributeValue]) -> None:
        """Set several attributes."""
        for key, value in attributes.items():
            self.set_attribute(key, value)

    def set_attribute(self, key: str, value: types.AttributeValue) -> None:
        """Set one attribute; past the limit it is dropped and counted."""
        if self._ended or not key or not isinstance(key, str) or value is None:
            return
        if self._attributes is None:
            self._attributes = {}
        if (
            key not in self._attributes
            and len(self._attributes) >= self._pipeline.limits.attributes
        ):
            self._drop(0)
            return
        # A list may change until it is encoded.
        self._attributes[key] = tuple(value) if isinstance(value, list) else value

    def add_event(
        self, name: str, attributes: types.Attributes = None, timestamp: int | None = None
    ) -> None:
        """Add an event; past the limit it is dropped and counted."""
        if attributes and not self._pipeline.exception_text and not _TEXTS.isdisjoint(attributes):
            attributes = {key: each for key, each in attributes.items() if key not in _TEXTS}
        self._add_event(name, attributes, timestamp)

    def _add_event(self, name: str, attributes: types.Attributes, timestamp: int | None) -> None:
        if self._ended:
            return
        if self._events is None:
            self._events = []
        if len(self._events) >= self._pipeline.limits.events:
            self._drop(1)
            return
        values, dropped = self._clean(attributes)
        at = time.time_ns() if timestamp is None else timestamp
        told = self._pipeline.scrubber.text(name)
        self._events.append(otlp.event(told, at, values, dropped))

    def add_link(self, context: trace.SpanContext, attributes: types.Attributes = None) -> None:
        """Add a link; past the limit it is dropped and counted."""
        if self._ended or not context.is_valid:
            return
        if self._links is None:
            self._links = []
        if len(self._links) >= self._pipeline.limits.links:
            self._drop(2)
            return
        values, dropped = self._clean(attributes)
        flags = (_REMOTE_PARENT if context.is_remote else _LOCAL_PARENT) & ~1 | context.trace_flags
        self._links.append(
            otlp.link(
                f"{context.trace_id:032x}",
                f"{context.span_id:016x}",
                context.trace_state.to_header(),
                flags,
                values,
                dropped,
            )
        )

    def update_name(self, name: str) -> None:
        """Give the span another name."""
        if not self._ended:
            self._name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Set the status; ok is final, unset never replaces anything."""
        if isinstance(status, Status):
            code, description = status.status_code, status.description
        else:
            code = status
        if self._ended or code is StatusCode.UNSET or (self._status and self._status[0] == 1):
            return
        # A description is the text of an exception nearly always.
        text = description if code is StatusCode.ERROR and self._pipeline.exception_text else None
        self._status = (code.value, self._pipeline.scrubber.text(text) if text else "")

    def record_exception(
        self,
        exception: BaseException,
        attributes: types.Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Add the event ``exception``: type and stack, its text only where settings allow."""
        values = dict(attributes or {})
        values["exception.type"] = type_name(exception)
        values["exception.stacktrace"] = _stack(exception)
        if self._pipeline.exception_text:
            values.setdefault("exception.message", str(exception))
        else:
            values.pop("exception.message", None)
        self._add_event("exception", values, timestamp)

    def end(self, end_time: int | None = None) -> None:
        """Queue the span."""
        self.finish(time.time_ns() if end_time is None else end_time)

    def finish(self, end: int, known: Known | None = None, said: object = None) -> None:
        """End the span; it is encoded by the exporter's thread.

        Args:
            end: nanoseconds since 1970.
            known: its name and further attributes, for what nobody has set.
            said: what ``known`` makes them of.
        """
        if self._ended:
            return
        self._ended = True
        self._end = end
        self._known = known
        self._said = said
        self._pipeline.exporter.add(self)

    @property
    def scope(self) -> bytes:
        """The instrumentation scope, encoded."""
        return self._scope

    def encode(self) -> bytes:
        """Return the span as OTLP has it."""
        name_and_kind, known = self._known(self._said) if self._known else (b"", {})
        if self._name or not name_and_kind:
            name = self._pipeline.scrubber.text(self._name)
            name_and_kind = otlp.name_and_kind(name, self._kind)
        if self._attributes:
            own = self._clean(self._attributes)[0]
            known = {key: each for key, each in known.items() if key not in own}
            rest = b"".join(known.values()) + otlp.attributes(own)
        else:
            rest = b"".join(known.values())
        if self._events:
            rest += b"".join(self._events)
        if self._links:
            rest += b"".join(self._links)
        if self._dropped:
            rest += otlp.dropped(*self._dropped)
        if self._status:
            rest += otlp.status(*self._status)
        return otlp.span(
            trace_id=self._trace_id,
            span_id=self._span_id,
            parent_id=self._parent_id,
            trace_state=self._state.to_header() if self._state else "",
            flags=self._flags,
            name_and_kind=name_and_kind,
            start=self._start,
            end=self._end,
            rest=rest,
        )

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """End the span, with what was raised in it."""
        if exc_val is not None and self.is_recording():
            self.record_exception(exc_val)
            self.set_status(StatusCode.ERROR)
        super().__exit__(exc_type, exc_val, exc_tb)

    def _drop(self, what: int) -> None:
        if self._dropped is None:
            self._dropped = [0, 0, 0]
        self._dropped[what] += 1

    def _clean(self, attributes: types.Attributes) -> tuple[dict[str, Any], int]:
        """Return what may leave, scrubbed and cut, and how many the limit left out."""
        if not attributes:
            return {}, 0
        limits, scrubber = self._pipeline.limits, self._pipeline.scrubber
        named = {key: each for key, each in attributes.items() if key and isinstance(key, str)}
        clean: dict[str, Any] = {}
        for key, value in named.items():
            if len(clean) >= limits.attributes:
                return clean, len(named) - len(clean)
            clean[key] = _cut(scrubber.value(key, value), limits.value_length)
        return clean, 0


class DirectTracer(trace.Tracer):
    """Makes spans of one instrumentation scope."""

    def __init__(self, pipeline: Pipeline, scope: bytes) -> None:
        self._pipeline = pipeline
        self._scope = scope

    def start_span(
        self,
        name: str,
        context: otel_context.Context | None = None,
        kind: trace.SpanKind = trace.SpanKind.INTERNAL,
        attributes: types.Attributes = None,
        links: Sequence[trace.Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> trace.Span:
        """Start a span below the current one; below one that is not sampled, record nothing."""
        parent = trace.get_current_span(context)
        ids = parent.get_span_context()
        fresh = new_ids()
        expected = _expected.get()
        if expected and kind is trace.SpanKind.SERVER and (ids.is_remote or not ids.is_valid):
            _expected.set(None)
            fresh = "".join(expected)
        if ids.is_valid:
            trace_id, parent_id = f"{ids.trace_id:032x}", f"{ids.span_id:016x}"
            sampled = self._pipeline.sampling.decide(ids.trace_id, ids.trace_flags.sampled)
        else:
            trace_id, parent_id = fresh[:32], None
            sampled = self._pipeline.sampling.decide(int(trace_id, 16), None)
        # First of all: a sampler that is not parent-based would record what is to be left out.
        if not sampled or otel_context.get_value(SUPPRESSED, context):
            return UnsampledSpan(trace_id, fresh[32:], ids.trace_state)
        span = DirectSpan(
            self._pipeline,
            self._scope,
            name,
            _KINDS[kind],
            trace_id,
            fresh[32:],
            parent_id,
            remote=ids.is_remote,
            start=time.time_ns() if start_time is None else start_time,
            state=ids.trace_state,
        )
        if attributes:
            span.set_attributes(attributes)
        for link in links or ():
            span.add_link(link.context, link.attributes)
        return span

    @_agnosticcontextmanager
    def start_as_current_span(
        self,
        name: str,
        context: otel_context.Context | None = None,
        kind: trace.SpanKind = trace.SpanKind.INTERNAL,
        attributes: types.Attributes = None,
        links: Sequence[trace.Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> Iterator[trace.Span]:
        """Start a span and make it the current one while the block runs."""
        span = self.start_span(name, context, kind, attributes, links, start_time)
        with trace.use_span(span, end_on_exit, record_exception, set_status_on_exception):
            yield span


class DirectTracerProvider(trace.TracerProvider):
    """Makes tracers; flushed by :meth:`force_flush`, as the SDK's."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: types.Attributes = None,
    ) -> DirectTracer:
        """Return a tracer of the named scope."""
        scope = otlp.scope(instrumenting_module_name, instrumenting_library_version, attributes)
        return DirectTracer(self._pipeline, scope + otlp.schema_url(schema_url))

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Send what is queued; return whether that was done in time."""
        return self._pipeline.exporter.flush(timeout_millis / 1000)


def _stack(exception: BaseException) -> str:
    """Return where it was raised: no text, no source line, both may quote a secret."""
    frames = traceback.StackSummary.extract(
        traceback.walk_tb(exception.__traceback__), limit=-_MOST_FRAMES, lookup_lines=False
    )
    return "\n".join(
        f'File "{each.filename}", line {each.lineno}, in {each.name}' for each in frames
    )


def _cut(value: Any, most: int | None) -> Any:  # noqa: ANN401 - whatever an attribute may be
    if most is None:
        return value
    if isinstance(value, str):
        return value[:most]
    return [_cut(each, most) for each in value] if isinstance(value, list) else value
