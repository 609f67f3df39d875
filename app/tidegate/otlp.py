"""Spans as OTLP writes them: the wire format of protobuf, straight from plain values.

An object for each span, attribute and value is what makes tracing slow. What is the same for
every request of a route is encoded once, by :func:`attribute`, and joined from then on.

Source: opentelemetry-proto 1.x, trace.proto, resource.proto and common.proto; a test holds every
function against the official classes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

AttributeValue = object
"""A string, bool, int, float or bytes, or a sequence of these; anything else as its text."""

_double: Final = struct.Struct("<d").pack
_fixed64: Final = struct.Struct("<Q").pack
_MOST_INT64: Final = (1 << 63) - 1

# Tags are (field number << 3) | wire type; 0 varint, 1 eight bytes, 2 length-delimited, 5 four.
_BYTE: Final = [bytes((n,)) for n in range(128)]


def varint(n: int) -> bytes:
    """Encode an integer; negative ones as the 64 bits of their two's complement."""
    if 0 <= n < 128:
        return _BYTE[n]
    n &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def field(tag: bytes, content: bytes) -> bytes:
    """Encode a length-delimited field."""
    size = len(content)
    return tag + (_BYTE[size] if size < 128 else varint(size)) + content


def attribute(key: str, value: AttributeValue, tag: bytes = b"\x4a") -> bytes:
    """Encode one attribute; ``tag`` is its field in a span (9), unless said otherwise."""
    return field(tag, field(b"\x0a", _utf8(key)) + field(b"\x12", _value(value)))


def _value(value: object) -> bytes:
    if isinstance(value, str):
        return field(b"\x0a", _utf8(value))
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        if -_MOST_INT64 <= value <= _MOST_INT64:
            return b"\x18" + varint(value)
        return field(b"\x0a", str(value).encode())  # OTLP has no larger ones
    if isinstance(value, float):
        return b"\x21" + _double(value)
    if isinstance(value, bytes):
        return field(b"\x3a", value)
    if isinstance(value, Sequence):
        return field(b"\x2a", b"".join(field(b"\x0a", _value(each)) for each in value))
    return field(b"\x0a", _utf8(str(value)))


def _utf8(text: str) -> bytes:
    # A lone surrogate, from a header or a file name, is no UTF-8: the collector would refuse all.
    return text.encode("utf-8", "replace")


def attributes(values: Mapping[str, AttributeValue], tag: bytes = b"\x4a") -> bytes:
    """Encode attributes."""
    return b"".join([attribute(key, value, tag) for key, value in values.items()])


def span(
    *,
    trace_id: str,
    span_id: str,
    parent_id: str | None,
    trace_state: str,
    flags: int,
    name_and_kind: bytes,
    start: int,
    end: int,
    rest: bytes,
) -> bytes:
    """Encode a span as a field (2) of ScopeSpans.

    Args:
        trace_id: 32 hexadecimal digits; ``span_id`` and ``parent_id`` have 16.
        flags: of W3C Trace Context, with OTLP's bits for a remote parent.
        name_and_kind: from :func:`name_and_kind`.
        start: nanoseconds since 1970, as ``end``.
        rest: attributes, events, links and status, each encoded.
    """
    parts = [
        b"\x0a\x10",
        bytes.fromhex(trace_id),
        b"\x12\x08",
        bytes.fromhex(span_id),
        b"\x22\x08" + bytes.fromhex(parent_id) if parent_id else b"",
        name_and_kind,
        b"\x39",
        _fixed64(start),
        b"\x41",
        _fixed64(end),
        rest,
        b"\x85\x01",
        flags.to_bytes(4, "little"),
    ]
    if trace_state:
        parts.append(field(b"\x1a", _utf8(trace_state)))
    return field(b"\x12", b"".join(parts))


def name_and_kind(name: str, kind: int) -> bytes:
    """Encode a span's name and OTLP's number of its kind (server is 2)."""
    return field(b"\x2a", _utf8(name)) + b"\x30" + _BYTE[kind]


def event(name: str, time: int, values: Mapping[str, AttributeValue], dropped: int = 0) -> bytes:
    """Encode an event of a span; ``time`` in nanoseconds since 1970."""
    content = b"\x09" + _fixed64(time) + field(b"\x12", _utf8(name))
    content += attributes(values, b"\x1a")
    return field(b"\x5a", content + (b"\x20" + varint(dropped) if dropped else b""))


def link(
    trace_id: str,
    span_id: str,
    trace_state: str,
    flags: int,
    values: Mapping[str, AttributeValue],
    dropped: int = 0,
) -> bytes:
    """Encode a link of a span."""
    content = b"\x0a\x10" + bytes.fromhex(trace_id) + b"\x12\x08" + bytes.fromhex(span_id)
    if trace_state:
        content += field(b"\x1a", _utf8(trace_state))
    content += attributes(values, b"\x22") + (b"\x28" + varint(dropped) if dropped else b"")
    return field(b"\x6a", content + b"\x35" + flags.to_bytes(4, "little"))


def status(code: int, message: str = "") -> bytes:
    """Encode a status other than unset: 1 is ok, 2 is error."""
    text = field(b"\x12", _utf8(message)) if message else b""
    return field(b"\x7a", text + b"\x18" + _BYTE[code])


def dropped(attributes: int, events: int, links: int) -> bytes:
    """Encode how much a span left out for its limits."""
    numbers = ((b"\x50", attributes), (b"\x60", events), (b"\x70", links))
    return b"".join(tag + varint(n) for tag, n in numbers if n)


def resource(values: Mapping[str, AttributeValue]) -> bytes:
    """Encode a resource as a field (1) of ResourceSpans."""
    return field(b"\x0a", attributes(values, b"\x0a"))


def scope(
    name: str, version: str | None, values: Mapping[str, AttributeValue] | None = None
) -> bytes:
    """Encode an instrumentation scope as a field (1) of ScopeSpans."""
    content = field(b"\x0a", _utf8(name))
    if version:
        content += field(b"\x12", _utf8(version))
    return field(b"\x0a", content + attributes(values or {}, b"\x1a"))


def request(resource: bytes, spans: Mapping[bytes, Iterable[bytes]]) -> bytes:
    """Encode an ExportTraceServiceRequest.

    Args:
        resource: from :func:`resource`.
        spans: for each instrumentation scope (with its schema URL, both encoded) its spans.
    """
    scoped = b"".join(field(b"\x12", b"".join((head, *members))) for head, members in spans.items())
    return field(b"\x0a", resource + scoped)


def schema_url(url: str | None) -> bytes:
    """Encode the schema URL of ScopeSpans (3)."""
    return field(b"\x1a", _utf8(url)) if url else b""
