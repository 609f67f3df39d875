"""The end of a request that was answered before its body was read.

Without this, the server would keep the connection for the next request and read the rest of the
body for it, all gigabytes of it. And whoever just closed the connection would, by what TCP does
with data that nobody reads, often take the answer away from the client as well. So the answer says
that the connection ends, is sent at once, and for a moment what still comes is thrown away.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SHORT: Final = 64 * 1024  # bytes, which the server has as good as read
_LINGER: Final = 2.0  # seconds
_MOST: Final = 16 * 1024 * 1024  # bytes


class UnreadBody:
    """Ends connections on which a long body is still on its way when the answer is there."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http" or not _may_be_long(scope):
            await self._app(scope, receive, send)
            return
        read = ending = False

        async def receive_noting() -> Message:
            nonlocal read
            message = await receive()
            read = read or not message.get("more_body")
            return message

        async def send_ending(message: Message) -> None:
            nonlocal ending
            if message["type"] == "http.response.start" and not read:
                ending = True
                headers = [each for each in message.get("headers", ()) if each[0] != b"connection"]
                message = {**message, "headers": [*headers, (b"connection", b"close")]}
            if ending and message["type"] == "http.response.body" and not message.get("more_body"):
                await send({**message, "more_body": True})
                await _linger(receive)
                message = {"type": "http.response.body"}
            await send(message)

        await self._app(scope, receive_noting, send_ending)


def _may_be_long(scope: Scope) -> bool:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return not value.isdigit() or len(value) > 9 or int(value) > _SHORT
        if name == b"transfer-encoding":
            return True
        if name == b"expect":
            break  # the client waits for our word, and sends nothing
    return False


async def _linger(receive: Receive) -> None:
    left = _MOST
    with suppress(TimeoutError):
        async with asyncio.timeout(_LINGER):
            while left > 0:
                message = await receive()
                if not message.get("more_body"):  # it is over, or the client has gone
                    return
                left -= len(message["body"])
