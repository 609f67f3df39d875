"""The access line: one for each request, with the route's template instead of its path."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Final, Literal, Protocol

from tidegate.context import RequestContext

logger: Final = logging.getLogger("tidegate.access")

_INFO: Final = '"level":"info"'
_ERROR: Final = '"level":"error"'


class AccessLog(Protocol):
    """Writes a line when a request or a WebSocket connection is over."""

    def describe(self, method: str, status: int, route: str) -> str:
        """Return what all lines of these three share, for :meth:`write`."""

    def describe_websocket(self, code: int, route: str) -> str:
        """Return the same for a WebSocket connection that was closed with ``code``."""

    def write(self, shared: str, request: RequestContext, duration: float, error: str) -> None:
        """Write one line.

        Args:
            shared: from :meth:`describe`.
            request: whose line it is.
            duration: seconds.
            error: type of the exception that nobody handled; empty without one.
        """


class JsonAccessLog:
    """Lines put together by hand: what is always alike needs no encoder.

    Args:
        write: takes what makes one line of UTF-8, its newline included; called in the thread that
            writes, where a batch of lines costs half of what each costs between two requests.
        level: the least severe lines that are written.
    """

    def __init__(
        self,
        write: Callable[[Callable[[], bytes]], None],
        level: Literal["debug", "info", "warning", "error"] = "info",
    ) -> None:
        self._write = write
        self._only_errors = level in {"warning", "error"}
        self._second = 0
        self._date = ""

    def describe(self, method: str, status: int, route: str) -> str:
        """Return the shared fields as JSON."""
        return (
            f'{_ERROR if status >= 500 else _INFO},"logger":"{logger.name}","message":"request",'
            f'"http.request.method":{json.dumps(method)},"http.route":{json.dumps(route)},'
            f'"http.response.status_code":{status}'
        )

    def describe_websocket(self, code: int, route: str) -> str:
        """Return the shared fields as JSON."""
        return (
            f'{_INFO},"logger":"{logger.name}","message":"websocket",'
            f'"http.route":{json.dumps(route)},"websocket.close_code":{code}'
        )

    def write(self, shared: str, request: RequestContext, duration: float, error: str) -> None:
        """Queue one line, unless it is below the level."""
        if error:  # of a WebSocket, or after the answer's status was sent
            shared = shared.replace(_INFO, _ERROR, 1)
        if self._only_errors and shared.startswith(_INFO):
            return
        # Not the request itself: it holds its connection.
        ids = request.request_id, request.trace_id, request.span_id, request.user_id
        self._write(partial(self._render, time.time(), shared, ids, duration, error))

    def _render(
        self,
        now: float,
        shared: str,
        ids: tuple[str, str, str, str | None],
        duration: float,
        error: str,
    ) -> bytes:
        request_id, trace_id, span_id, user_id = ids
        second = int(now)
        if second != self._second:
            self._second = second
            self._date = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        if '"' in request_id or "\\" in request_id:
            request_id = json.dumps(request_id)[1:-1]
        more = ""
        if user_id is not None:
            more = f',"user_id":{json.dumps(user_id)}'
        if error:
            more += f',"error.type":{json.dumps(error)}'
        return (
            f'{{"timestamp":"{self._date}.{int((now - second) * 1e6):06d}Z",{shared},'
            f'"duration":{duration:.6f},"request_id":"{request_id}",'
            f'"trace_id":"{trace_id}","span_id":"{span_id}"{more}}}\n'.encode()
        )


class ConsoleAccessLog:
    """Lines for people, through the pipeline that all other records take."""

    def describe(self, method: str, status: int, route: str) -> str:
        """Return the beginning of the line."""
        return f"{status} {method} {route}"

    def describe_websocket(self, code: int, route: str) -> str:
        """Return the beginning of the line."""
        return f"{code} WS {route}"

    def write(self, shared: str, request: RequestContext, duration: float, error: str) -> None:
        """Write one line."""
        ending = f" {error}" if error else ""
        failed = error or shared.startswith("5")  # a status; no close code begins with it
        level = logging.ERROR if failed else logging.INFO
        logger.log(level, "%s in %.1f ms%s", shared, duration * 1000, ending)
