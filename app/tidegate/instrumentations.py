"""Custom metrics that were written for prometheus-fastapi-instrumentator, taken unchanged."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from prometheus_fastapi_instrumentator.metrics import Info
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

if TYPE_CHECKING:
    from tidegate.hook import Exchange

logger = logging.getLogger("tidegate.metrics")

Instrumentation = Callable[[Info], None] | Callable[[Info], Awaitable[None]]


class Instrumentations:
    """The functions that are called with each request's :class:`Info`."""

    def __init__(self) -> None:
        self._functions: list[Instrumentation] = []

    def __bool__(self) -> bool:
        return bool(self._functions)

    def add(self, *functions: Instrumentation | None) -> None:
        """Call these from now on; the instrumentator's own give None when they exist already."""
        self._functions.extend(each for each in functions if each is not None)

    async def call(
        self, scope: Scope, exchange: Exchange, method: str, handler: str, duration: float
    ) -> None:
        """Tell every function of a request that is over; one that raises is logged, no more.

        Args:
            method: a known one, or ``_OTHER``: it becomes a label.
            handler: the route's template.
            duration: seconds, with what was streamed.
        """
        headers = Headers(raw=list(exchange.response_headers))
        info = Info(
            request=Request(scope),
            response=Response(headers=headers, status_code=exchange.status),
            method=method,
            modified_handler=handler,
            modified_status=f"{exchange.status // 100}xx",
            modified_duration=duration,
            modified_duration_without_streaming=max(0.0, exchange.answered - exchange.started),
        )
        for function in self._functions:
            try:
                waiting = function(info)
                if inspect.isawaitable(waiting):
                    await waiting
            except Exception:
                logger.exception("A custom instrumentation failed; the request is not affected")
