"""The access line: one for each request, with the route's template instead of its path."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
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
        write: takes whole lines of UTF-8, and how many.
        level: the least severe lines that are written.
    """

    def __init__(
        self,
        write: Callable[[bytes, int], None],
        level: Literal["debug", "info", "warning", "error"] = "info",
    ) -> None:
        self._write = write
        self._only_errors = level in {"warning", "error"}
        self._date = (0, "")  # of which second; in one piece, as two threads may write lines

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
        """Write one line."""
        self.write_all([self.line(time.time(), shared, request, duration, error)])

    def write_all(self, lines: list[str]) -> None:
        """Write what :meth:`line` has returned; empty ones are none."""
        count = len(lines) - lines.count("")
        if count:
            self._write("".join(lines).encode(), count)

    def line(
        self, now: float, shared: str, request: RequestContext, duration: float, error: str
    ) -> str:
        """Return one line, empty when it is below the level; ``now`` is in seconds since 1970."""
        if error:  # of a WebSocket, or after the answer's status was sent
            shared = shared.replace(_INFO, _ERROR, 1)
        if self._only_errors and shared.startswith(_INFO):
            return ""
        second, date = self._date
        if second != int(now):
            second = int(now)
            date = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._date = (second, date)
        request_id = request.request_id
        if '"' in request_id or "\\" in request_id:
            request_id = json.dumps(request_id)[1:-1]
        more = ""
        if request.user_id is not None:
            try:
                user_id = str(request.user_id)
            except Exception:  # set without bind_user; others' lines are made in the same turn
                user_id = "unprintable"
            more = f',"user_id":{json.dumps(user_id)}'
        if error:
            more += f',"error.type":{json.dumps(error)}'
        return (
            f'{{"timestamp":"{date}.{int((now - second) * 1e6):06d}Z",{shared},'
            f'"duration":{duration:.6f},"request_id":"{request_id}",'
            f'"trace_id":"{request.trace_id}","span_id":"{request.span_id}"{more}}}\n'
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
