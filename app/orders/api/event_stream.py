"""Server-sent events, as an answer that ends with its drain."""

from __future__ import annotations

import asyncio
import random
from typing import Final

from fastapi import Response
from starlette.types import Receive, Scope, Send

from orders.core.access import Principal
from orders.core.event_cursor import EventCursor
from orders.core.rooms import Room
from orders.stream.consumer import Consumer
from orders.stream.follow import follow, send_all
from orders.stream.hub import Hub
from orders.stream.message import GONE, Message, as_sse, end_as_sse

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
        head = f"retry: {random.randint(*_RECONNECT)}\n"  # noqa: S311 - spreads clients

        async def tell(message: Message) -> None:
            nonlocal head
            if head:
                start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
                await send(start)
            await send(_body(head + as_sse(message)))
            head = ""

        with self._hub.joined(self._principal, self._room) as consumer:
            gone = asyncio.ensure_future(_until_gone(receive, consumer))
            try:
                await send_all(follow(self._hub, consumer, self._cursor), consumer, tell)
            finally:
                gone.cancel()
        if consumer.end and not head:
            await send(_body(end_as_sse(consumer.end), more=False))


async def _until_gone(receive: Receive, consumer: Consumer) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    consumer.close(GONE)


def _body(text: str, *, more: bool = True) -> dict[str, object]:
    return {"type": "http.response.body", "body": text.encode(), "more_body": more}
