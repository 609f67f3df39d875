"""WebSockets: handed over after the handshake, and told when the process ends.

At the end the application has its say, then the client sees 1012.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

SERVICE_RESTART: Final = 1012
_GOODBYE: Final = {
    "type": "websocket.disconnect",
    "code": SERVICE_RESTART,
    "reason": "the server restarts; connect again",
}
_CONNECTION: Final = "tidegate.connection"

Rest = Callable[[Receive, Send], Awaitable[None]]
"""What serves a connection from some moment on."""


def hand_over(scope: Scope, rest: Rest) -> None:
    """Let ``rest`` have an accepted WebSocket as soon as the endpoint and all around it return.

    An endpoint that awaits a client's next message for an hour keeps all that it came through as
    long: middleware, routing, dependencies, the request. That is two thirds of what an idle
    connection takes. ``rest`` has nothing around it but Tidegate: one span, one access line and
    one goodbye are still for the whole of the connection. When it returns, the connection closes.

    Args:
        scope: the WebSocket's, ``websocket.scope``.
        rest: called with ``receive`` and ``send`` of the connection. It should not hold the
            ``WebSocket``, which holds the rest of the request.

    Raises:
        RuntimeError: the application runs without Tidegate, or the connection is not open.
    """
    connection = scope.get(_CONNECTION)
    if not isinstance(connection, Connection):
        raise RuntimeError(
            "only a WebSocket of an application with Tidegate(app) can be handed over; "
            "await the rest in the endpoint instead"
        )
    connection.hand_over(rest)


class Connection:
    """Stands between one WebSocket application and its server.

    After :meth:`say_goodbye` the application's pending or next ``receive()`` returns a disconnect
    with code 1012. The client knows nothing yet, so that the application can still send; once it
    has returned, the block sends the close frame unless the application did so itself.
    """

    __slots__ = (
        "_accepted",
        "_connected",
        "_open",
        "_receive",
        "_receiving",
        "_send",
        "rest",
        "told",
    )

    def __init__(self, receive: Receive, send: Send, among: set[Connection]) -> None:
        self._receive = receive
        self._send = send
        self._open = among
        self._receiving: asyncio.Task[Any] | None = None
        self._connected = False  # the application has heard of the client
        self._accepted = False  # and wants it, and neither side has closed since
        self.rest: Rest | None = None
        self.told = False

    async def __aenter__(self) -> Self:
        """Begin."""
        self._open.add(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        """Close the connection, if it was told to end."""
        try:
            if self.told and self._accepted:
                with suppress(OSError):  # the client was quicker
                    await self._send({**_GOODBYE, "type": "websocket.close"})
        finally:
            self._open.discard(self)
        # A handler may leave it uncaught; with our own goodbye that is no error to log.
        return self.told and isinstance(error, WebSocketDisconnect)

    def hand_over(self, rest: Rest) -> None:
        """Keep what is to serve it when the application has returned."""
        if not self._accepted:
            raise RuntimeError(
                "a WebSocket is handed over while it is open: accept it first, and hand over "
                "nothing once either side has closed"
            )
        self.rest = rest

    def say_goodbye(self) -> None:
        """Let the application know that its connection ends; on the event loop."""
        self.told = True
        # Cancelling costs the messages before this moment nothing; a task for each of them would.
        if self._connected and self._receiving:
            self._receiving.cancel()

    async def receive(self) -> Message:
        """Return the client's next message, or the goodbye."""
        if self.told and self._connected:
            return dict(_GOODBYE)
        self._receiving = task = asyncio.current_task()
        try:
            message = await self._receive()
        except asyncio.CancelledError:
            # Above 0, somebody else wants the task to end as well.
            if self.told and self._connected and task and task.uncancel() == 0:
                return dict(_GOODBYE)
            raise
        finally:
            self._receiving = None
        self._connected = True
        if message["type"] == "websocket.disconnect":
            self._accepted = False
        return message

    async def send(self, message: Message) -> None:
        """Pass the application's message on."""
        if message["type"] == "websocket.accept":
            self._accepted = True
        elif message["type"] == "websocket.close":
            self._accepted = False
        await self._send(message)


class WebSockets:
    """The open connections of a process."""

    def __init__(self) -> None:
        self._open: set[Connection] = set()
        self._ending = False

    def __len__(self) -> int:
        """Count the connections whose application has not returned."""
        return len(self._open)

    def connection(self, scope: Scope, receive: Receive, send: Send) -> Connection:
        """Return the block in which an application is run for one connection.

        One that opens after the goodbye hears it at once.
        """
        scope[_CONNECTION] = connection = Connection(receive, send, self._open)
        if self._ending:
            connection.say_goodbye()
        return connection

    def say_goodbye(self) -> None:
        """Tell every connection, and each that opens from now on, that it ends."""
        self._ending = True
        for connection in self._open:
            connection.say_goodbye()
