"""The one pure-ASGI hook that stands around the application.

It sees every request first and last, outside of the user's own middleware and of Starlette's
error page, and never touches a body. Each part is optional, and one that is off costs nothing.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from time import perf_counter
from typing import TYPE_CHECKING, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from tidegate.access import AccessLog
from tidegate.context import RequestContext, _current
from tidegate.exceptions import type_name
from tidegate.ids import new_ids
from tidegate.instrumentations import Instrumentations
from tidegate.lifecycle import Lifecycle
from tidegate.metrics import METHODS, OTHER_METHOD, HttpMetrics, Series
from tidegate.routes import RouteTemplates
from tidegate.traceparent import Parent, read_traceparent

if TYPE_CHECKING:  # not imported where they are off
    from tidegate.sentry import Sentry
    from tidegate.tracing import Entered, Headers, Tracing

logger = logging.getLogger("tidegate.error")

_SANE_REQUEST_ID: Final = re.compile(rb"[\x21-\x7e]{1,128}")
NO_CLOSE_CODE: Final = 1006
"""What RFC 6455 calls the code of a connection that ended without one."""

_new: Final = object.__new__
_NOBODY: Final = ("", "", "", False)
_OURS: Final = frozenset({b"x-request-id", b"traceresponse"})
_OURS_DRAINING: Final = _OURS | {b"connection"}


class Kind:
    """What all requests of one method, status and route share."""

    __slots__ = ("access", "series")

    def __init__(self, series: Series | None, access: str) -> None:
        self.series = series
        self.access = access


class Exchange(RequestContext):
    """A request and what is known of its answer so far.

    Made without its constructor: for each request, a call more costs as much as a metric.
    """

    __slots__ = (
        "answered",
        "forward",
        "hook",
        "response_headers",
        "response_size",
        "started",
        "status",
    )

    hook: Hook
    forward: Send
    started: float
    answered: float
    status: int
    response_headers: Sequence[tuple[bytes, bytes]]
    response_size: int

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return what an answer tells of the request's ids."""
        traceresponse = f"00-{self.trace_id}-{self.span_id}-0{self.sampled:d}"
        return [
            (b"x-request-id", self.request_id.encode()),
            (b"traceresponse", traceresponse.encode()),
        ]

    def send(self, message: Message) -> Awaitable[None]:
        """Pass the answer on, with the request's ids in its head."""
        if message["type"] != "http.response.start":
            return self.forward(message)
        hook = self.hook
        if hook.adopt:  # here the other instrumentation's span is current
            hook.adopt(self)
        self.answered = perf_counter()
        self.status = message["status"]
        self.response_headers = headers = message.get("headers", ())
        told = self.headers()
        # Asked now: a request that began before SIGTERM closes its connection as well.
        replaced = _OURS
        if hook.lifecycle.draining:
            told.append((b"connection", b"close"))
            replaced = _OURS_DRAINING
        for header in headers:
            name = header[0]
            if name == b"content-length" and header[1].isdigit():
                self.response_size = int(header[1])
            if name not in replaced:
                told.append(header)
        return self.forward({**message, "headers": told})


class Hook:
    """Request id, trace context, timing, metrics, access line and the span of each request."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        routes: RouteTemplates,
        lifecycle: Lifecycle,
        metrics: HttpMetrics | None = None,
        instrumentations: Instrumentations | None = None,
        access_log: AccessLog | None = None,
        tracing: Tracing | None = None,
        traced_app: ASGIApp | None = None,
        read_parent: Callable[[Headers], Parent | None] | None = None,
        adopt: Callable[[RequestContext], None] | None = None,
        sentry: Sentry | None = None,
        log_errors: bool = True,
    ) -> None:
        self._app = app
        self._traced_app = traced_app or app
        self._read_parent = read_parent
        self._routes = routes
        self.lifecycle = lifecycle
        self._metrics = metrics
        self._instrumentations = instrumentations
        self._access_log = access_log
        self._tracing = tracing
        self.adopt = adopt
        self._sentry = sentry
        self._log_errors = log_errors
        self._kinds: dict[tuple[str, int, str], Kind] = {}
        self.in_flight = 0
        """Requests that have begun and not ended."""

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Handle a request, a connection or the lifespan."""
        if scope["type"] == "http":
            return self._http(scope, receive, send)
        if scope["type"] == "websocket":
            return self._websocket(scope, receive, send)
        return self._lifespan(scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Note the end of the startup of all: of routers that were included later as well."""

        async def send_noting(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                self.lifecycle.started = True
            await send(message)

        await self._app(scope, receive, send_noting)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        tracing = self._tracing
        exchange = _new(Exchange)
        exchange.started = exchange.answered = perf_counter()
        exchange.hook = self
        exchange.forward = send
        exchange.status = 500  # until it is answered; it may never be
        exchange.response_headers = ()
        exchange.response_size = 0
        exchange.user_id = None
        parent_id = self._identify(exchange, headers)
        token = _current.set(exchange)
        self.in_flight += 1
        entered: Entered | None = None
        error: BaseException | None = None
        try:
            if tracing:
                scope["fastapi.telemetry"] = None  # where a mounted FastAPI looks for its own
                entered = tracing.enter(exchange, parent_id, scope, headers)
            app = self._traced_app if exchange.sampled else self._app
            await app(scope, receive, exchange.send)
        except BaseException as raised:
            error = raised
            raise
        finally:
            duration = perf_counter() - exchange.started
            self.in_flight -= 1
            status = exchange.status
            route = self._routes.of(scope, status)
            method = scope["method"]
            if method not in METHODS:
                method = OTHER_METHOD
            kind = self._kinds.get((method, status, route)) or self._learn(method, status, route)
            if kind.series:
                size = headers.get(b"content-length")
                kind.series.record(
                    duration,
                    int(size) if size and size.isdigit() else 0,
                    # An error page is not the application's answer.
                    0 if error and status == 500 else exchange.response_size,
                    exchange.trace_id if exchange.sampled else None,
                )
            if error is not None:
                self._report(error, exchange, f"{method} {route}")
            if self._access_log:
                self._access_log.write(
                    kind.access, exchange, duration, type_name(error) if error else ""
                )
            if tracing and entered:
                tracing.leave(entered, scope, headers, route, status, error)
            _current.reset(token)
            error = None  # whose traceback holds this frame
            if self._instrumentations:  # last: they are the application's, and may be cancelled
                await self._instrumentations.call(scope, exchange, method, route, duration)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a connection: one span and one line for all of it."""
        headers = dict(scope["headers"])
        tracing = self._tracing
        exchange = Exchange(*_NOBODY)
        exchange.started = perf_counter()
        exchange.status = 0  # of the answer that refuses it; there is none to one that is accepted
        code = NO_CLOSE_CODE
        accepted = False
        parent_id = self._identify(exchange, headers)

        async def receive_noting() -> Message:
            nonlocal code
            message = await receive()
            if message["type"] == "websocket.disconnect":
                code = message.get("code") or code
            return message

        async def send_noting(message: Message) -> None:
            nonlocal accepted, code
            kind = message["type"]
            if kind in {"websocket.accept", "websocket.http.response.start"}:
                if self.adopt:
                    self.adopt(exchange)
                told = [each for each in message.get("headers", ()) if each[0] not in _OURS]
                message = {**message, "headers": [*told, *exchange.headers()]}
                accepted = kind == "websocket.accept"
                exchange.status = message.get("status", 0)
            elif kind == "websocket.close":
                code = message.get("code") or 1000
                if not accepted:
                    exchange.status = HTTPStatus.FORBIDDEN.value  # is how servers tell it
            await send(message)

        token = _current.set(exchange)
        entered: Entered | None = None
        error: BaseException | None = None
        try:
            if tracing:
                scope["fastapi.telemetry"] = None
                entered = tracing.enter(exchange, parent_id, scope, headers)
            app = self._traced_app if exchange.sampled else self._app
            await self.lifecycle.websockets.run(app, scope, receive_noting, send_noting)
        except WebSocketDisconnect:
            pass  # a client that goes is no error, though the handler did not expect it
        except BaseException as raised:
            error = raised
            raise
        finally:
            route = self._routes.of(scope, exchange.status)
            if error is not None:
                self._report(error, exchange, f"WS {route}")
            if log := self._access_log:
                log.write(
                    log.describe("GET", exchange.status, route)
                    if exchange.status
                    else log.describe_websocket(code, route),
                    exchange,
                    perf_counter() - exchange.started,
                    type_name(error) if error else "",
                )
            if tracing and entered:
                tracing.leave(entered, scope, headers, route, exchange.status, error)
            _current.reset(token)
            error = None

    def _identify(self, exchange: Exchange, headers: Headers) -> str | None:
        """Give the request its ids; return the caller's span, if there is one."""
        random = new_ids()
        exchange.span_id = random[32:]
        exchange.trace_id = exchange.request_id = random[:32]
        parent_id = caller_sampled = None
        if self._read_parent:
            parent = self._read_parent(headers)
        else:
            traceparent = headers.get(b"traceparent")
            parent = read_traceparent(traceparent) if traceparent else None
        if parent:
            exchange.trace_id, parent_id, caller_sampled = parent
        if self._tracing:
            exchange.sampled = self._tracing.sampling.decide(
                int(exchange.trace_id[16:], 16), caller_sampled
            )
        else:
            exchange.sampled = caller_sampled is True
        wanted = headers.get(b"x-request-id")
        if wanted and _SANE_REQUEST_ID.fullmatch(wanted):
            exchange.request_id = wanted.decode("ascii")
        return parent_id

    def _learn(self, method: str, status: int, route: str) -> Kind:
        series = (
            self._metrics.series(method, f"{status // 100}xx", route) if self._metrics else None
        )
        access = self._access_log.describe(method, status, route) if self._access_log else ""
        kind = self._kinds[method, status, route] = Kind(series, access)
        return kind

    def _report(self, error: BaseException, request: RequestContext, transaction: str) -> None:
        if not isinstance(error, Exception):
            return
        if self._log_errors:
            logger.error("Unhandled exception in %s", transaction, exc_info=error)
        if self._sentry:
            self._sentry.capture(error, request, transaction)
