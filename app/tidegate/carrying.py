"""The ids of a request, for whoever goes on with its work: another service, or a worker later."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import propagate, trace
from opentelemetry.trace import SpanKind

from tidegate.context import RequestContext, _current, current_request
from tidegate.hook import _SANE_REQUEST_ID
from tidegate.ids import new_ids
from tidegate.traceparent import Parent, read_traceparent
from tidegate.tracing import extract


def carry() -> dict[str, str]:
    """Return the headers that join what comes next to this request: in a job, or in a call.

    ``x-request-id`` and ``traceparent``; the latter as ``OTEL_PROPAGATORS`` says where spans are
    made. Empty outside of any request.
    """
    carried: dict[str, str] = {}
    span = trace.get_current_span().get_span_context()
    made_here = span.is_valid and not span.is_remote
    if made_here:
        propagate.inject(carried)
    if request := current_request():
        if not made_here:
            flags = "01" if request.sampled else "00"
            carried["traceparent"] = f"00-{request.trace_id}-{request.span_id}-{flags}"
        carried["x-request-id"] = request.request_id
    return carried


@contextmanager
def carried_on(name: str, carried: Mapping[str, str]) -> Iterator[RequestContext]:
    """Let the block belong to the request that ``carried`` was taken from, in a span of its own.

    Args:
        name: of the span.
        carried: what :func:`carry` returned there; with nothing in it, a request begins here.
    """
    headers = {key.lower().encode(): value.encode() for key, value in carried.items()}
    parent = read_traceparent(headers.get(b"traceparent", b""))
    tracer = trace.get_tracer("tidegate")
    with tracer.start_as_current_span(
        name, context=extract(headers), kind=SpanKind.CONSUMER
    ) as span:
        request = _request(span.get_span_context(), parent)
        wanted = headers.get(b"x-request-id", b"")
        if _SANE_REQUEST_ID.fullmatch(wanted):
            request.request_id = wanted.decode("ascii")
        token = _current.set(request)
        try:
            yield request
        finally:
            _current.reset(token)


def _request(span: trace.SpanContext, parent: Parent | None) -> RequestContext:
    ids = new_ids()
    trace_id, span_id, sampled = ids[:32], ids[32:], False
    if parent:
        trace_id, _, sampled = parent
    if span.is_valid and not span.is_remote:  # else nobody makes spans in this process
        trace_id, span_id = f"{span.trace_id:032x}", f"{span.span_id:016x}"
        sampled = span.trace_flags.sampled
    return RequestContext(ids[:32], trace_id, span_id, sampled)
