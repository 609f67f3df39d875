"""The request that the running code belongs to: what every log line and event is joined by."""

from __future__ import annotations

from contextvars import ContextVar


class RequestContext:
    """One HTTP request or WebSocket connection; made by the hook, shared by all that it runs.

    One mutable object in one context variable: what a dependency sets in a thread or in a task
    of its own is seen by the hook, and a second request never sees it.
    """

    __slots__ = ("request_id", "sampled", "span_id", "trace_id", "user_id")

    request_id: str
    """At most 128 visible ASCII characters: the client's ``X-Request-ID``, or one made here."""
    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 hexadecimal digits: the server span's, whether it is sampled or not."""
    sampled: bool
    user_id: str | None
    """As :func:`bind_user` was told."""

    def __init__(self, request_id: str, trace_id: str, span_id: str, sampled: bool) -> None:
        self.request_id = request_id
        self.trace_id = trace_id
        self.span_id = span_id
        self.sampled = sampled
        self.user_id = None


_current: ContextVar[RequestContext | None] = ContextVar("tidegate_request", default=None)


def current_request() -> RequestContext | None:
    """Return the request that the caller belongs to; ``None`` outside of any."""
    return _current.get()


def bind_user(user_id: str) -> None:
    """Put ``user_id`` on every later log line of this request; outside of one, do nothing."""
    if request := _current.get():
        request.user_id = str(user_id)  # a UUID or a number, as soon as nobody checks types
