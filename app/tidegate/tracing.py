"""What the hook asks of tracing: a current span for each request, written when it is sampled."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from contextvars import Token
from functools import partial
from typing import Final, Protocol

from fastapi import FastAPI
from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace.status import StatusCode
from starlette.types import ASGIApp, Scope

from tidegate import otlp
from tidegate.context import RequestContext, current_request
from tidegate.exceptions import type_name
from tidegate.metrics import METHODS, OTHER_METHOD
from tidegate.routes import NO_ROUTE
from tidegate.sampling import Sampling
from tidegate.spans import SERVER, DirectSpan, Pipeline, UnsampledSpan

Headers = Mapping[bytes, bytes]

_ROOT: Final = Context()
_NO_STATE: Final = trace.TraceState()
_WEBSOCKET: Final = "WS"
_SCOPE: Final = otlp.scope("tidegate", None)
_HOST: Final = re.compile(r"(?P<name>.*?)(?::(?P<port>[0-9]{1,5}))?", re.DOTALL)
_MOST_VALUES: Final = 1000  # encoded values of clients that are kept; a crawler has more


Entered = tuple[DirectSpan | None, Token[Context]]
"""The span that is recorded, if any, and how to leave its context."""


class _RequestSpan(trace.NonRecordingSpan):
    """The current span of every request that is not sampled.

    What it calls must not begin a trace of its own. One for all: each request's ids are looked up
    when somebody asks, and for most requests nobody does.
    """

    def get_span_context(self) -> trace.SpanContext:
        """Return the ids of the request that asks."""
        request = current_request()
        if request is None:
            return trace.INVALID_SPAN_CONTEXT
        return UnsampledSpan(request.trace_id, request.span_id).get_span_context()


NOT_SAMPLED: Final = trace.set_span_in_context(_RequestSpan(trace.INVALID_SPAN_CONTEXT), _ROOT)
"""The context of every request that is not sampled."""


class Tracing(Protocol):
    """A backend: makes the current span of a request, and ends it."""

    sampling: Sampling

    def wrap(self, app: FastAPI, stack: ASGIApp) -> ASGIApp:
        """Return the application's middleware stack as sampled requests go through it."""

    def enter(
        self, request: RequestContext, parent_id: str | None, scope: Scope, headers: Headers
    ) -> Entered:
        """Make the current span."""

    def leave(
        self,
        entered: Entered,
        scope: Scope,
        headers: Headers,
        route: str,
        status: int,
        error: BaseException | None,
    ) -> None:
        """End the span.

        Args:
            route: the template, or ``NO_ROUTE``.
            status: of the answer; 0 for a WebSocket.
            error: what nobody handled.
        """


class DirectTracing:
    """Writes spans as OTLP from the hook; what repeats is encoded once."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.sampling = pipeline.sampling
        self._pipeline = pipeline
        self._kinds: dict[tuple[str, str, int, str, str], tuple[bytes, bytes]] = {}
        self._values: dict[tuple[str, object], bytes] = {}

    def wrap(self, app: FastAPI, stack: ASGIApp) -> ASGIApp:
        """Return the stack as it is."""
        return stack

    def enter(
        self, request: RequestContext, parent_id: str | None, scope: Scope, headers: Headers
    ) -> Entered:
        """Make the current span; its parent is the caller's, if there is one."""
        base, state = _ROOT, _NO_STATE
        if b"baggage" in headers or b"tracestate" in headers:
            base = extract(headers)
            state = trace.get_current_span(base).get_span_context().trace_state
            if not request.sampled:
                unsampled = UnsampledSpan(request.trace_id, request.span_id, state)
                return None, otel_context.attach(trace.set_span_in_context(unsampled, base))
        if not request.sampled:
            return None, otel_context.attach(NOT_SAMPLED)
        span = DirectSpan(
            self._pipeline,
            _SCOPE,
            "",
            SERVER,
            request.trace_id,
            request.span_id,
            parent_id,
            remote=parent_id is not None,
            start=time.time_ns(),
            state=state,
        )
        return span, otel_context.attach(trace.set_span_in_context(span, base))

    def leave(
        self,
        entered: Entered,
        scope: Scope,
        headers: Headers,
        route: str,
        status: int,
        error: BaseException | None,
    ) -> None:
        """End the span; its attributes are those of the stable HTTP conventions."""
        span, token = entered
        otel_context.detach(token)
        if span is None:
            return
        if error is not None:
            span.record_exception(error)
            span.set_attribute("error.type", type_name(error))
        elif status >= 500:
            span.set_attribute("error.type", str(status))
        if error is not None or status >= 500:
            span.set_status(StatusCode.ERROR)
        span.finish(time.time_ns(), partial(self._encode, scope, headers, route, status))

    def _encode(
        self, scope: Scope, headers: Headers, route: str, status: int
    ) -> tuple[bytes, bytes]:
        """Encode name and attributes; called by the exporter's thread alone."""
        method = scope.get("method", _WEBSOCKET)
        key = (method, route, status, scope.get("scheme", ""), scope.get("http_version", ""))
        name, shared = self._kinds.get(key) or self._describe(key)
        parts = [shared, otlp.attribute("url.path", scope["path"]), self._server(scope, headers)]
        if client := scope.get("client"):
            parts.append(self._value("client.address", client[0]))
            parts.append(otlp.attribute("client.port", client[1]))
        if agent := headers.get(b"user-agent"):
            parts.append(self._value("user_agent.original", agent))
        return name, b"".join(parts)

    def _describe(self, key: tuple[str, str, int, str, str]) -> tuple[bytes, bytes]:
        method, route, status, scheme, version = key
        values: dict[str, object] = {"url.scheme": scheme, "network.protocol.version": version}
        verb = method
        if method == _WEBSOCKET:
            values["network.protocol.name"] = "websocket"
        else:
            verb = method if method in METHODS else "HTTP"
            values["http.request.method"] = method if method in METHODS else OTHER_METHOD
        if verb == "HTTP":
            values["http.request.method_original"] = method[:100]
        if status:
            values["http.response.status_code"] = status
        if route != NO_ROUTE:
            values["http.route"] = route
        name = verb if route == NO_ROUTE else f"{verb} {route}"
        encoded = otlp.name_and_kind(name, SERVER), otlp.attributes(values)
        if verb != "HTTP":  # invented verbs have no end
            self._kinds[key] = encoded
        return encoded

    def _server(self, scope: Scope, headers: Headers) -> bytes:
        host = headers.get(b"host", b"")
        encoded = self._values.get(("", host))
        if encoded is None:
            address, number = _read_host(host.decode("latin-1")) if host else _listener(scope)
            if not number:
                number = 443 if scope.get("scheme") in {"https", "wss"} else 80
            encoded = otlp.attribute("server.address", address)
            encoded += otlp.attribute("server.port", number)
            self._keep(("", host), encoded)
        return encoded

    def _value(self, name: str, value: str | bytes) -> bytes:
        encoded = self._values.get((name, value))
        if encoded is None:
            text = value.decode("latin-1") if isinstance(value, bytes) else value
            encoded = otlp.attribute(name, text)
            self._keep((name, value), encoded)
        return encoded

    def _keep(self, key: tuple[str, object], encoded: bytes) -> None:
        if len(self._values) >= _MOST_VALUES:
            self._values.clear()
        self._values[key] = encoded


def extract(headers: Headers) -> Context:
    """Read trace context and baggage with the propagators that ``OTEL_PROPAGATORS`` names."""
    carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()}
    return propagate.extract(carrier, _ROOT)


def _read_host(host: str) -> tuple[str, int]:
    found = _HOST.fullmatch(host)
    name, port = found.group("name", "port") if found else (host, None)
    return name.strip("[]"), int(port or 0)


def _listener(scope: Scope) -> tuple[str, int]:
    server = scope.get("server") or ("", 0)
    return server[0], server[1] or 0
