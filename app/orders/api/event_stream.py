"""Server-sent events, as an answer that ends with its drain."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from fastapi import Response
from starlette.types import Receive, Scope, Send

from orders.core.access import Principal
from orders.core.event_cursor import EventCursor
from orders.core.rooms import Room
from orders.stream.follow import follow
from orders.stream.hub import Hub
from orders.stream.message import GONE, End, Message, as_sse, end_as_sse

_RECONNECT: Final = (1000, 4000)
"""Milliseconds, drawn: clients of one pod that ends come back apart."""
_HEADERS: Final = {
    "cache-control": "no-store",
    "x-accel-buffering": "no",  # or nginx collects events before it passes them on
}


class EventStream(Response):
    """Sends what is told in a room until its end, and says why it was the end."""

    media_type = "text/event-stream"

    def __init__(
        self, hub: Hub, principal: Principal, room: Room, cursor: EventCursor | None
    ) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._hub = hub
        self._principal = principal
        self._room = room
        self._cursor = cursor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send; what fails before the first message is answered as any error is."""
        del scope
        client = _Client(receive, send, self.raw_headers)
        await follow(self._hub, self._principal, self._room, self._cursor, client)


class _Client:
    """Whoever reads the answer."""

    def __init__(
        self, receive: Receive, send: Send, headers: Sequence[tuple[bytes, bytes]]
    ) -> None:
        self._receive = receive
        self._send = send
        self._headers = headers
        self._head = f"retry: {random.randint(*_RECONNECT)}\n"  # noqa: S311 - spreads clients

    async def say(self, said: Message | End) -> None:
        head, self._head = self._head, ""
        if head:
            start = {"type": "http.response.start", "status": 200, "headers": self._headers}
            await self._send(start)
        text = end_as_sse(said) if isinstance(said, End) else as_sse(said)
        body = {"type": "http.response.body", "body": f"{head}{text}".encode()}
        await self._send({**body, "more_body": not isinstance(said, End)})

    async def until_gone(self) -> End:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        return GONE
