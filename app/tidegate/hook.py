"""The one pure-ASGI hook that stands around the application.

It sees every request first and last, outside of the user's own middleware and of Starlette's
error page, and never touches a body. Each part is optional, and one that is off costs nothing.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from http import HTTPStatus
from operator import itemgetter
from time import perf_counter
from typing import TYPE_CHECKING, Final
from weakref import WeakMethod

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from tidegate.access import AccessLog
from tidegate.context import RequestContext, _current
from tidegate.exceptions import type_name
from tidegate.ids import new_ids
from tidegate.instrumentations import Instrumentations
from tidegate.ledger import Entry, Ledger
from tidegate.lifecycle import Lifecycle
from tidegate.metrics import METHODS, OTHER_METHOD
from tidegate.routes import NO_ROUTE, RouteTemplates
from tidegate.traceparent import Parent, read_traceparent

if TYPE_CHECKING:  # not imported where they are off
    from tidegate.sentry import Sentry
    from tidegate.tracing import Headers, Tracing

logger = logging.getLogger("tidegate.error")

_SANE_REQUEST_ID: Final = re.compile(rb"[\x21-\x7e]{1,128}")
NO_CLOSE_CODE: Final = 1006
"""What RFC 6455 calls the code of a connection that ended without one."""

_AHEAD: Final = 32
"""Exchanges that are made in a row, before their requests come."""

_new: Final = object.__new__
_name: Final = itemgetter(0)
_LOOKED_AT: Final = frozenset(
    {b"baggage", b"content-length", b"traceparent", b"tracestate", b"x-request-id"}
)
"""Headers of requests. Most have none of these, and a mapping of all would cost 3 µs."""
_OURS: Final = frozenset({b"x-request-id", b"traceresponse"})
_OURS_DRAINING: Final = _OURS | {b"connection"}


class Exchange(Entry):
    """A request and what is known of its answer so far.

    Made without its constructor, and many in a row: between two requests each call costs as much
    as a metric.
    """

    __slots__ = ("answered", "forward", "hook", "response_headers", "started", "status", "told")

    hook: Hook
    forward: Send
    started: float
    answered: float
    status: int
    response_headers: Sequence[tuple[bytes, bytes]]
    told: tuple[tuple[bytes, bytes], ...]
    """The headers by which the answer tells the request's ids."""

    def tell(self) -> None:
        """Put the ids as they are now into the headers of the answer."""
        traceresponse = f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"
        self.told = (
            (b"x-request-id", self.request_id.encode()),
            (b"traceresponse", traceresponse.encode()),
        )

    def send(self, message: Message) -> Awaitable[None]:
        """Pass the answer on, with the request's ids in its head."""
        if message["type"] != "http.response.start":
            return self.forward(message)
        if self.forward is _over:  # and what was told of the request stays so
            return _over(message)
        hook = self.hook
        if hook.adopt:  # here the other instrumentation's span is current
            hook.adopt(self)
            self.tell()
        self.answered = perf_counter()
        self.status = message["status"]
        self.response_headers = headers = message.get("headers", ())
        sent = [*self.told]
        # Asked now: a request that began before SIGTERM closes its connection as well.
        replaced = _OURS
        if hook.lifecycle.draining:
            sent.append((b"connection", b"close"))
            replaced = _OURS_DRAINING
        for header in headers:
            name = header[0]
            if name not in replaced:
                sent.append(header)
                if name == b"content-length" and header[1].isdigit():
                    self.sent = int(header[1])
        return self.forward({**message, "headers": sent})


async def _over(message: Message) -> None:
    """Stand where the connection was: a request that has ended must not hold it."""
    raise RuntimeError(f"{message['type']} was sent after the application had returned")


class Hook:
    """Request id, trace context, timing, metrics, access line and the span of each request."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        routes: RouteTemplates,
        lifecycle: Lifecycle,
        ledger: Ledger | None = None,
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
        self._ledger = ledger
        self._instrumentations = instrumentations
        self._access_log = access_log
        self._tracing = tracing
        self.adopt = adopt
        self._sentry = sentry
        self._log_errors = log_errors
        self.in_flight = 0
        """Requests that have begun and not ended."""
        self._prepared: list[Exchange] = []
        forget = WeakMethod(self._forget)
        os.register_at_fork(after_in_child=lambda: (again := forget()) and again())

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

    def _forget(self) -> None:
        """In a fork: no two processes give the same ids, or tell of the same request."""
        self._prepared.clear()
        if self._ledger:
            self._ledger.forget()

    def _prepare(self) -> Exchange:
        """Return a new exchange, and make some for the requests to come."""
        *ahead, exchange = self._make(_AHEAD)
        self._prepared.extend(ahead)
        return exchange

    def _make(self, count: int) -> Iterator[Exchange]:
        below = self._tracing.sampling.below if self._tracing else ""
        ids = new_ids(count)
        for start in range(0, 48 * count, 48):
            exchange = _new(Exchange)
            exchange.hook = self
            exchange.trace_id = exchange.request_id = ids[start : start + 32]
            exchange.span_id = ids[start + 32 : start + 48]
            exchange.sampled = ids[start + 16 : start + 32] < below
            exchange.tell()
            exchange.user_id = None
            exchange.error_type = ""
            exchange.status = 500  # until it is answered; it may never be
            exchange.response_headers = ()
            exchange.received = exchange.sent = 0
            yield exchange

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        tracing = self._tracing
        try:  # no check before: two threads may each run a loop of their own
            exchange = self._prepared.pop()
        except IndexError:
            exchange = self._prepare()
        exchange.started = exchange.answered = perf_counter()
        exchange.forward = send
        headers: Headers | None = None
        parent_id = None
        if (
            exchange.sampled
            or self._read_parent
            or not _LOOKED_AT.isdisjoint(map(_name, scope["headers"]))
        ):
            headers = dict(scope["headers"])
            parent_id = self._identify(exchange, headers)
        token = _current.set(exchange)
        self.in_flight += 1
        finish = attached = None
        error: BaseException | None = None
        try:
            if tracing:
                scope["fastapi.telemetry"] = None  # where a mounted FastAPI looks for its own
                if headers is None:
                    attached = tracing.enter_unsampled()
                else:
                    finish, attached = tracing.enter(exchange, parent_id, scope, headers)
            app = self._traced_app if exchange.sampled else self._app
            await app(scope, receive, exchange.send)
        except BaseException as raised:
            error = raised
            raise
        finally:
            exchange.ended = perf_counter()
            exchange.duration = exchange.ended - exchange.started
            exchange.forward = _over
            self.in_flight -= 1
            status = exchange.status
            route = self._routes.of(scope, status)
            if error is not None:
                exchange.error_type = type_name(error)
                if status == 500:  # an error page is not the application's answer
                    exchange.sent = 0
                self._report(error, exchange, scope["method"], route)
            if tracing and attached:
                if finish and headers is not None:
                    finish(scope, headers, route, status, error)
                tracing.leave(attached)
            if ledger := self._ledger:
                size = headers and headers.get(b"content-length")
                if size and size.isdigit():
                    exchange.received = int(size)
                exchange.kind = ledger.kind(scope["method"], status, route)
                ledger.add(exchange)
            _current.reset(token)
            error = None  # whose traceback holds this frame
            if self._instrumentations:  # last: they are the application's, and may be cancelled
                await self._instrumentations.call(
                    scope, exchange, scope["method"], route, exchange.duration
                )

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a connection: one span and one line for all of it."""
        headers = dict(scope["headers"])
        tracing = self._tracing
        (exchange,) = self._make(1)
        exchange.started = perf_counter()
        exchange.status = 0  # of the answer that refuses it; there is none to one that is accepted
        code = NO_CLOSE_CODE
        accepted = False
        route = ""
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
                    exchange.tell()
                told = [each for each in message.get("headers", ()) if each[0] not in _OURS]
                message = {**message, "headers": [*told, *exchange.told]}
                accepted = kind == "websocket.accept"
                exchange.status = message.get("status", 0)
            elif kind == "websocket.close":
                code = message.get("code") or 1000
                if not accepted:
                    exchange.status = HTTPStatus.FORBIDDEN.value  # is how servers tell it
            await send(message)

        token = _current.set(exchange)
        finish = attached = None
        error: BaseException | None = None
        try:
            if tracing:
                scope["fastapi.telemetry"] = None
                finish, attached = tracing.enter(exchange, parent_id, scope, headers)
            app = self._traced_app if exchange.sampled else self._app
            websockets = self.lifecycle.websockets
            async with websockets.connection(scope, receive_noting, send_noting) as connection:
                await app(scope, connection.receive, connection.send)
                if connection.rest:
                    route = self._routes.of(scope, exchange.status)
                    if finish is None:  # nobody asks for the request again
                        headers = {}
                        scope.clear()
                    await connection.rest(connection.receive, connection.send)
        except WebSocketDisconnect:
            pass  # a client that goes is no error, though the handler did not expect it
        except BaseException as raised:
            error = raised
            raise
        finally:
            route = route or self._routes.of(scope, exchange.status)
            if error is not None:
                self._report(error, exchange, "WS", route)
            if log := self._access_log:
                log.write(
                    log.describe("GET", exchange.status, route)
                    if exchange.status
                    else log.describe_websocket(code, route),
                    exchange,
                    perf_counter() - exchange.started,
                    type_name(error) if error else "",
                )
            if tracing and attached:
                if finish:
                    finish(scope, headers, route, exchange.status, error)
                tracing.leave(attached)
            _current.reset(token)
            error = None

    def note_refusal(self, status: int) -> tuple[tuple[bytes, bytes], ...]:
        """Tell of a request that the server refuses, since it cannot be read.

        Returns:
            The headers of the answer that tell its ids.
        """
        (exchange,) = self._make(1)
        exchange.status = status
        exchange.duration = 0.0
        exchange.ended = perf_counter()
        if ledger := self._ledger:
            token = _current.set(exchange)
            exchange.kind = ledger.kind(OTHER_METHOD, status, NO_ROUTE)
            ledger.add(exchange)
            _current.reset(token)
        return exchange.told

    def _identify(self, exchange: Exchange, headers: Headers) -> str | None:
        """Give the request the ids that its caller wants; return the caller's span, if any."""
        parent_id = None
        if self._read_parent:
            parent = self._read_parent(headers)
        else:
            traceparent = headers.get(b"traceparent")
            parent = read_traceparent(traceparent) if traceparent else None
        if parent:
            exchange.trace_id, parent_id, exchange.sampled = parent
            if self._tracing:
                exchange.sampled = self._tracing.sampling.decide(
                    int(exchange.trace_id[16:], 16), exchange.sampled
                )
        wanted = headers.get(b"x-request-id")
        if wanted and _SANE_REQUEST_ID.fullmatch(wanted):
            exchange.request_id = wanted.decode("ascii")
        if parent or wanted:
            exchange.tell()
        return parent_id

    def _report(
        self, error: BaseException, request: RequestContext, method: str, route: str
    ) -> None:
        if not isinstance(error, Exception):
            return
        transaction = f"{method if method in METHODS or method == 'WS' else OTHER_METHOD} {route}"
        if self._log_errors:
            logger.error("Unhandled exception in %s", transaction, exc_info=error)
        if self._sentry:
            self._sentry.capture(error, request, transaction)
