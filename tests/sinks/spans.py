"""What a back end has received, in one shape for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

Value = str | bool | int | float | bytes | tuple["Value", ...] | Mapping[str, "Value"] | None
Attributes = Mapping[str, Value]


@dataclass(frozen=True)
class Event:
    """Something that happened within a span; ``time`` in nanoseconds since 1970."""

    name: str
    attributes: Attributes
    time: int


@dataclass(frozen=True)
class Link:
    """Another span that this one names."""

    trace_id: str
    span_id: str
    attributes: Attributes


@dataclass(frozen=True)
class Span:
    """One span; ids in hexadecimal digits, times in nanoseconds since 1970."""

    name: str
    trace_id: str
    span_id: str
    parent_span_id: str
    """Empty for the first span of a trace."""
    kind: str
    """``server``, ``client``, ``internal``, ``producer`` or ``consumer``."""
    start: int
    end: int
    attributes: Attributes
    events: tuple[Event, ...]
    links: tuple[Link, ...]
    status: str
    """``unset``, ``ok`` or ``error``."""
    status_message: str
    trace_state: str
    dropped: tuple[int, int, int]
    """How many attributes, events and links its maker left out."""
    scope: str
    scope_version: str
    resource: Attributes


def read_spans(received: Iterable[ResourceSpans]) -> Iterator[Span]:
    """Unfold OTLP's nesting: every span with its scope and its resource."""
    for of_resource in received:
        resource = _attributes(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                yield Span(
                    name=span.name,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_span_id=span.parent_span_id.hex(),
                    kind=_word(trace_pb2.Span.SpanKind.Name(span.kind), "SPAN_KIND_"),
                    start=span.start_time_unix_nano,
                    end=span.end_time_unix_nano,
                    attributes=_attributes(span.attributes),
                    events=tuple(
                        Event(event.name, _attributes(event.attributes), event.time_unix_nano)
                        for event in span.events
                    ),
                    links=tuple(
                        Link(link.trace_id.hex(), link.span_id.hex(), _attributes(link.attributes))
                        for link in span.links
                    ),
                    status=_word(
                        trace_pb2.Status.StatusCode.Name(span.status.code), "STATUS_CODE_"
                    ),
                    status_message=span.status.message,
                    trace_state=span.trace_state,
                    dropped=(
                        span.dropped_attributes_count,
                        span.dropped_events_count,
                        span.dropped_links_count,
                    ),
                    scope=of_scope.scope.name,
                    scope_version=of_scope.scope.version,
                    resource=resource,
                )


def _word(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower()


def _attributes(pairs: Iterable[KeyValue]) -> Attributes:
    found: dict[str, Value] = {}
    for pair in pairs:
        # Undefined by OTLP, and back ends differ in what they keep.
        assert pair.key not in found, f"the attribute {pair.key} came twice"
        found[pair.key] = _value(pair.value)
    return found


def _value(value: AnyValue) -> Value:
    match value.WhichOneof("value"):
        case None:
            return None
        case "array_value":
            return tuple(_value(each) for each in value.array_value.values)
        case "kvlist_value":
            return _attributes(value.kvlist_value.values)
        case str(scalar):
            found: str | bool | int | float | bytes = getattr(value, scalar)
            return found
