"""What the hook asks of tracing: a current span for each request, written when it is sampled."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar, Token
from functools import partial
from typing import Final, Protocol, TypeVar

from fastapi import FastAPI
from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace.status import StatusCode
from starlette.types import ASGIApp, Scope

from tidegate import otlp
from tidegate.context import RequestContext, current_request
from tidegate.exceptions import type_name
from tidegate.metrics import METHODS, OTHER_METHOD
from tidegate.routes import NO_ROUTE
from tidegate.sampling import Sampling
from tidegate.spans import SERVER, DirectSpan, Pipeline, UnsampledSpan, expect_server_span
from tidegate.traceparent import Parent

Headers = Mapping[bytes, bytes]
K = TypeVar("K")
V = TypeVar("V")

# Of the two calls a request, most of the cost is what OpenTelemetry wraps around these.
_variable: Final = getattr(otel_context._RUNTIME_CONTEXT, "_current_context", None)
_attach: Final = _variable.set if isinstance(_variable, ContextVar) else otel_context.attach
_detach: Final = _variable.reset if isinstance(_variable, ContextVar) else otel_context.detach
_ROOT: Final = Context()
_NO_STATE: Final = trace.TraceState()
_WEBSOCKET: Final = "WS"
_SCOPE: Final = otlp.scope("tidegate", None)
_HOST: Final = re.compile(r"(?P<name>.*?)(?::(?P<port>[0-9]{1,5}))?", re.DOTALL)
_MOST_VALUES: Final = 1000  # encoded values of clients that are kept; a crawler has more
_LONGEST_KEPT: Final = 256
_MOST_LAYERS: Final = 1000  # of middleware that are looked at; an object may claim any attribute
_LONGEST: Final = 1024  # of what a client sends; thousands of spans may wait for a collector


Finish = Callable[[Scope, Headers, str, int, BaseException | None], None]
"""Ends a span that is recorded.

It is given the request's scope and headers, the route's template (or ``NO_ROUTE``), the status of
the answer (0 for a WebSocket), and what nobody handled.
"""

Entered = tuple[Finish | None, Token[Context]]
"""How to end the span, where one is recorded here, and how to leave its context."""


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

_enter_unsampled: Final = partial(_attach, NOT_SAMPLED)


class Tracing(Protocol):
    """A backend: makes the current span of a request, and ends it."""

    sampling: Sampling

    @property
    def enter_unsampled(self) -> Callable[[], Token[Context]]:
        """Makes the current span of a request that is not sampled and names no caller."""

    def wrap(self, app: FastAPI, stack: ASGIApp) -> ASGIApp:
        """Return the application's middleware stack as sampled requests go through it."""

    def enter(
        self, request: RequestContext, parent_id: str | None, scope: Scope, headers: Headers
    ) -> Entered:
        """Make the current span."""

    @property
    def leave(self) -> Callable[[Token[Context]], object]:
        """Leaves what one of the above has entered."""


class InstrumentedTracing:
    """For an application that an instrumentation of OpenTelemetry stands around already.

    Its middleware makes the server spans, with the ids that are in logs and headers already.
    """

    enter_unsampled = staticmethod(_enter_unsampled)

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling

    def wrap(self, app: FastAPI, stack: ASGIApp) -> ASGIApp:
        """Return the stack as it is."""
        return stack

    def enter(
        self, request: RequestContext, parent_id: str | None, scope: Scope, headers: Headers
    ) -> Entered:
        """Keep what a request calls from beginning traces when it is not sampled itself."""
        if not request.sampled:
            return None, _attach(NOT_SAMPLED)
        expect_server_span((request.trace_id, request.span_id))
        return None, _attach(Context())  # in which the middleware looks for no span

    def leave(self, attached: Token[Context]) -> None:
        """Leave what was made current."""
        _detach(attached)
        expect_server_span(None)


_Kind = tuple[str, str, int, str, str]
"""Method, route, status, scheme and version: what many requests share."""

_Address = tuple[str, int | None] | None
_Said = tuple[_Kind, str, bytes, bytes, _Address, _Address, str]
"""What a span says of its request, and no more of it: a collector may let it wait.

Its kind, path, host, user agent, client, server and the type of its error.
"""


class DirectTracing:
    """Writes spans as OTLP from the hook; what repeats is encoded once.

    Args:
        pipeline: takes the spans.
        w3c_only: whether a caller is told of in the headers of W3C alone.
    """

    enter_unsampled = staticmethod(_enter_unsampled)
    leave = staticmethod(_detach)

    def __init__(self, pipeline: Pipeline, *, w3c_only: bool = True) -> None:
        self.sampling = pipeline.sampling
        self._pipeline = pipeline
        self._w3c_only = w3c_only
        longest = pipeline.limits.value_length
        self._longest = _LONGEST if longest is None else min(longest, _LONGEST)
        self._kinds: dict[_Kind, tuple[bytes, dict[str, bytes]]] = {}
        self._values: dict[tuple[str, object], bytes] = {}
        self._hosts: dict[tuple[object, ...], dict[str, bytes]] = {}

    def wrap(self, app: FastAPI, stack: ASGIApp) -> ASGIApp:
        """Return the stack as it is."""
        return stack

    def enter(
        self, request: RequestContext, parent_id: str | None, scope: Scope, headers: Headers
    ) -> Entered:
        """Make the current span; its parent is the caller's, if there is one."""
        base, state = _ROOT, _NO_STATE
        if b"baggage" in headers or b"tracestate" in headers or not self._w3c_only:
            base = extract(headers)
            state = trace.get_current_span(base).get_span_context().trace_state
            if not request.sampled:
                unsampled = UnsampledSpan(request.trace_id, request.span_id, state)
                return None, _attach(trace.set_span_in_context(unsampled, base))
        if not request.sampled:
            return None, _attach(NOT_SAMPLED)
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
        return partial(self._finish, span), _attach(trace.set_span_in_context(span, base))

    def _finish(
        self,
        span: DirectSpan,
        scope: Scope,
        headers: Headers,
        route: str,
        status: int,
        error: BaseException | None,
    ) -> None:
        """End the span; its attributes are those of the stable HTTP conventions."""
        error_type = ""
        if error is not None:
            span.record_exception(error)
            error_type = type_name(error)
        elif status >= 500:
            error_type = str(status)
        if error_type:
            span.set_status(StatusCode.ERROR)
        said: _Said = (
            (
                scope.get("method", _WEBSOCKET)[:_LONGEST],
                route,
                status,
                scope.get("scheme", ""),
                scope.get("http_version", ""),
            ),
            scope["path"][:_LONGEST],
            headers.get(b"host", b"")[:_LONGEST],
            headers.get(b"user-agent", b"")[:_LONGEST],
            scope.get("client"),
            scope.get("server"),
            error_type,
        )
        span.finish(time.time_ns(), self._encode, said)

    def _encode(self, said: _Said) -> tuple[bytes, dict[str, bytes]]:
        """Encode name and attributes; called by the exporter's thread alone."""
        kind, path, host, agent, client, server, error_type = said
        name, shared = self._kinds.get(kind) or self._describe(kind)
        known = {**shared, **self._server(kind[3], host, server)}
        path = self._pipeline.scrubber.text(path)
        known["url.path"] = otlp.attribute("url.path", self._cut(path))
        if client:
            known["client.address"] = self._value("client.address", client[0])
            known["client.port"] = otlp.attribute("client.port", client[1])
        if agent:
            known["user_agent.original"] = self._value("user_agent.original", agent)
        if error_type:
            known["error.type"] = self._value("error.type", error_type)
        return name, known

    def _describe(self, kind: _Kind) -> tuple[bytes, dict[str, bytes]]:
        method, route, status, scheme, version = kind
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
        known = {key: otlp.attribute(key, self._cut(each)) for key, each in values.items()}
        encoded = otlp.name_and_kind(name, SERVER), known
        if verb != "HTTP":  # invented verbs have no end
            self._kinds[kind] = encoded
        return encoded

    def _server(self, scheme: str, host: bytes, server: _Address) -> dict[str, bytes]:
        key = (scheme, host, None if host else server)
        known = self._hosts.get(key)
        if known is None:
            address, number = _read_host(host.decode("latin-1")) if host else server or ("", 0)
            if not number:
                number = 443 if scheme in {"https", "wss"} else 80
            known = {
                "server.address": otlp.attribute("server.address", self._cut(address)),
                "server.port": otlp.attribute("server.port", number),
            }
            _keep(self._hosts, key, known, len(host))
        return known

    def _value(self, name: str, value: str | bytes) -> bytes:
        encoded = self._values.get((name, value))
        if encoded is None:
            text = value.decode("latin-1") if isinstance(value, bytes) else value
            encoded = otlp.attribute(name, self._cut(text))
            _keep(self._values, (name, value), encoded, len(value))
        return encoded

    def _cut(self, value: object) -> object:
        return value[: self._longest] if isinstance(value, str) else value


def parent_of(headers: Headers) -> Parent | None:
    """Return the caller's span as the propagators of ``OTEL_PROPAGATORS`` find it."""
    ids = trace.get_current_span(extract(headers)).get_span_context()
    if not ids.is_valid:
        return None
    return f"{ids.trace_id:032x}", f"{ids.span_id:016x}", ids.trace_flags.sampled


def extract(headers: Headers) -> Context:
    """Read trace context and baggage with the propagators that ``OTEL_PROPAGATORS`` names."""
    return propagate.extract(headers, _ROOT, _HeaderGetter())


class _HeaderGetter(Getter[Headers]):
    """Finds a header whatever the case a propagator writes it in."""

    def get(self, carrier: Headers, key: str) -> list[str] | None:
        """Return the one value of a header."""
        value = carrier.get(key.lower().encode("latin-1"))
        return None if value is None else [value.decode("latin-1")]

    def keys(self, carrier: Headers) -> list[str]:
        """Return the names of all headers."""
        return [name.decode("latin-1") for name in carrier]


def is_instrumented(app: FastAPI, stack: ASGIApp) -> bool:
    """Whether a middleware of OpenTelemetry, which makes a server span, is in the application.

    Args:
        app: may have it as its own middleware.
        stack: its middleware, all of it; the instrumentation for FastAPI puts it there.
    """
    return any(
        getattr(kind, "__module__", "").startswith("opentelemetry.instrumentation.asgi")
        for kind in (*(each.cls for each in app.user_middleware), *_layers(stack))
    )


def _layers(stack: ASGIApp) -> Iterator[object]:
    layer: object = stack
    for _ in range(_MOST_LAYERS):
        yield type(layer)
        layer = getattr(layer, "app", None)
        if layer is None:
            return


def _keep(kept: dict[K, V], key: K, value: V, size: int) -> None:
    if size > _LONGEST_KEPT:
        return
    if len(kept) >= _MOST_VALUES:
        kept.clear()
    kept[key] = value


def _read_host(host: str) -> tuple[str, int]:
    found = _HOST.fullmatch(host)
    name, port = found.group("name", "port") if found else (host, None)
    return name.strip("[]"), int(port or 0)
