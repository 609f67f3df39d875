"""The header traceparent: read as OpenTelemetry reads it, whatever a client writes there."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tidegate.traceparent import Parent, read_traceparent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"

digits = st.text("0123456789abcdef")
nearly_right = st.builds(
    "-".join,
    st.tuples(
        st.sampled_from(["00", "01", "cc", "fe", "ff", "FF", "0", "000", ""]),
        st.sampled_from([TRACE, TRACE.upper(), TRACE[1:], TRACE + "0", "0" * 32, f"{1:032x}", ""]),
        st.sampled_from([SPAN, SPAN.upper(), SPAN[1:], SPAN + "0", "0" * 16, f"{1:016x}", ""]),
        st.sampled_from(["00", "01", "02", "03", "fe", "ff", "1", "0g", "001", "", "01-", "01-x"]),
    ),
)
blanks = st.text(" \t", max_size=3)
# One line of a header, as a server passes it on.
anything = st.text(
    st.characters(codec="latin-1", exclude_characters="\r\n\x0b\x0c\x1c\x1d\x1e\x85")
)
mutilated = st.builds(
    lambda text, at, with_: text[: at % 60] + with_ + text[at % 60 :],
    nearly_right,
    st.integers(0, 60),
    anything,
)


def as_opentelemetry_reads(header: str) -> Parent | None:
    context = TraceContextTextMapPropagator().extract({"traceparent": header}, Context())
    ids = trace.get_current_span(context).get_span_context()
    if not ids.is_valid:
        return None
    return f"{ids.trace_id:032x}", f"{ids.span_id:016x}", ids.trace_flags.sampled


@given(blanks, st.one_of(nearly_right, mutilated, anything, digits), blanks)
@example("", f"00-{TRACE}-{SPAN}-01-more", "")
@example("", f"01-{TRACE}-{SPAN}-01-more", "")
@example("", f"00-{TRACE}-{SPAN}-03", "")
def test_a_header_says_what_it_says_to_opentelemetry(before: str, header: str, behind: str) -> None:
    header = before + header + behind
    assert read_traceparent(header.encode("latin-1")) == as_opentelemetry_reads(header)


@given(st.binary(max_size=200))
def test_whatever_is_accepted_is_safe_to_write_into_a_line_and_a_header(header: bytes) -> None:
    found = read_traceparent(header)
    assert found is None or (len(found[0]), len(found[1])) == (32, 16)


@pytest.mark.parametrize(
    ("flags", "sampled"), [("00", False), ("01", True), ("02", False), ("03", True), ("ff", True)]
)
def test_only_the_first_flag_says_sampled(flags: str, sampled: bool) -> None:
    header = f"00-{TRACE}-{SPAN}-{flags}".encode()
    assert read_traceparent(header) == (TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"00",
        f"00-{TRACE}-{SPAN}".encode(),
        f"00-{TRACE}-{SPAN}-01\nset-cookie: a=b".encode(),
        f"00-{TRACE}-{SPAN}-01-{'x' * 10_000}".encode(),
        f"00-{TRACE}-{SPAN}-01".replace("4", "\N{ARABIC-INDIC DIGIT FOUR}").encode(),
        f"00-{TRACE.upper()}-{SPAN}-01".encode(),
    ],
)
def test_a_hostile_header_is_ignored(header: bytes) -> None:
    assert read_traceparent(header) is None
