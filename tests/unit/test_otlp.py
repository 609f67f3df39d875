"""The wire format by hand, held against the official classes of opentelemetry-proto."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tidegate import otlp

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
_integer = st.integers(-(2**63) + 1, 2**63 - 1)
_number = st.floats(allow_nan=False)
_values = st.one_of(
    *(_text, st.booleans(), _integer, _number, st.binary(max_size=200)),
    *(st.lists(each, max_size=5) for each in (_text, st.booleans(), _integer, _number)),
)
_attributes = st.dictionaries(_text, _values, max_size=5)
_hex16 = st.integers(1, 2**64 - 1).map(lambda n: f"{n:016x}")
_hex32 = st.integers(1, 2**128 - 1).map(lambda n: f"{n:032x}")
_time = st.integers(0, 2**63 - 1)


def value_of(value: AnyValue) -> Any:  # noqa: ANN401
    kind = str(value.WhichOneof("value"))
    if kind == "array_value":
        return [value_of(each) for each in value.array_value.values]
    return getattr(value, kind)


def dict_of(attributes: Any) -> dict[str, Any]:  # noqa: ANN401
    found = {each.key: value_of(each.value) for each in attributes}
    assert len(found) == len(attributes), "an attribute came twice"
    return found


@given(_text, _values)
def test_an_attribute_reads_back_as_it_was(key: str, value: object) -> None:
    span = Span.FromString(otlp.attribute(key, value))

    assert dict_of(span.attributes) == {key: value}


@given(
    ids=st.tuples(_hex32, _hex16, st.none() | _hex16),
    name=_text,
    state=_text,
    times=st.tuples(_time, _time),
    flags=st.integers(0, 0x301),
    attributes=_attributes,
    events=st.lists(st.tuples(_text, _time, _attributes, st.integers(0, 300)), max_size=3),
    link=st.tuples(_hex32, _hex16, _text, _attributes, st.integers(0, 300)),
    status=st.none() | st.tuples(st.sampled_from([1, 2]), _text),
    dropped=st.tuples(*[st.integers(0, 2**31)] * 3),
    resource=_attributes,
    scope=st.tuples(_text, st.none() | _text, _attributes, st.none() | _text),
)
def test_a_request_reads_back_as_it_was(
    ids: tuple[str, str, str | None],
    name: str,
    state: str,
    times: tuple[int, int],
    flags: int,
    attributes: dict[str, Any],
    events: list[tuple[str, int, dict[str, Any], int]],
    link: tuple[str, str, str, dict[str, Any], int],
    status: tuple[int, str] | None,
    dropped: tuple[int, int, int],
    resource: dict[str, Any],
    scope: tuple[str, str | None, dict[str, Any], str | None],
) -> None:
    rest = otlp.attributes(attributes)
    rest += b"".join(otlp.event(*each) for each in events)
    rest += otlp.link(*link[:3], 1, *link[3:]) + otlp.dropped(*dropped)
    rest += otlp.status(*status) if status else b""
    span = otlp.span(
        trace_id=ids[0],
        span_id=ids[1],
        parent_id=ids[2],
        trace_state=state,
        flags=flags,
        name_and_kind=otlp.name_and_kind(name, 2),
        start=times[0],
        end=times[1],
        rest=rest,
    )
    head = otlp.scope(*scope[:3]) + otlp.schema_url(scope[3])

    request = ExportTraceServiceRequest.FromString(
        otlp.request(otlp.resource(resource), {head: [span, span]})
    )

    (of_resource,) = request.resource_spans
    assert dict_of(of_resource.resource.attributes) == resource
    (of_scope,) = of_resource.scope_spans
    assert (of_scope.scope.name, of_scope.scope.version, of_scope.schema_url) == (
        scope[0],
        scope[1] or "",
        scope[3] or "",
    )
    assert dict_of(of_scope.scope.attributes) == scope[2]
    read, again = of_scope.spans
    assert read == again
    assert (read.trace_id.hex(), read.span_id.hex(), read.parent_span_id.hex()) == (
        ids[0],
        ids[1],
        ids[2] or "",
    )
    assert (read.name, read.kind, read.trace_state) == (name, Span.SPAN_KIND_SERVER, state)
    assert (read.start_time_unix_nano, read.end_time_unix_nano, read.flags) == (*times, flags)
    assert dict_of(read.attributes) == attributes
    assert [
        (each.name, each.time_unix_nano, dict_of(each.attributes), each.dropped_attributes_count)
        for each in read.events
    ] == events
    (read_link,) = read.links
    assert (
        read_link.trace_id.hex(),
        read_link.span_id.hex(),
        read_link.trace_state,
        dict_of(read_link.attributes),
        read_link.dropped_attributes_count,
    ) == link
    assert (read.status.code, read.status.message) == (status or (0, ""))
    counts = read.dropped_attributes_count, read.dropped_events_count, read.dropped_links_count
    assert counts == dropped


def test_what_is_no_utf8_and_no_int64_is_sent_as_something_that_is() -> None:
    attributes = {"lone surrogate": "\ud800", "large": 2**70, "object": ValueError}

    span = Span.FromString(otlp.attributes(attributes))

    assert dict_of(span.attributes) == {
        "lone surrogate": "?",
        "large": str(2**70),
        "object": str(ValueError),
    }
