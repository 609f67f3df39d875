"""WebSockets at the end of a process: the application has its say, then the client sees 1012."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

SERVICE_RESTART: Final = 1012
_GOODBYE: Final = {
    "type": "websocket.disconnect",
    "code": SERVICE_RESTART,
    "reason": "the server restarts; connect again",
}


class Connection:
    """Stands between one WebSocket application and its server.

    After :meth:`say_goodbye` the application's pending or next ``receive()`` returns a disconnect
    with code 1012. The client knows nothing yet, so that the application can still send; once it
    has returned, :meth:`finish` sends the close frame unless the application did so itself.
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._receiving: asyncio.Task[Any] | None = None
        self._connected = False  # the application has heard of the client
        self._accepted = False  # and wants it, and neither side has closed since
        self.told = False

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

    async def finish(self) -> None:
        """After the application has returned: close the connection, if it was told to end."""
        if self.told and self._accepted:
            with suppress(OSError):  # the client was quicker
                await self._send({**_GOODBYE, "type": "websocket.close"})


class WebSockets:
    """The open connections of a process."""

    def __init__(self) -> None:
        self._open: set[Connection] = set()
        self._ending = False

    def __len__(self) -> int:
        """Count the connections whose application has not returned."""
        return len(self._open)

    async def run(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Run ``app`` for one connection; one that opens after the goodbye hears it at once."""
        connection = Connection(receive, send)
        if self._ending:
            connection.say_goodbye()
        self._open.add(connection)
        try:
            await app(scope, connection.receive, connection.send)
        except WebSocketDisconnect:
            # A handler may leave it uncaught; with our own goodbye that is no error to log.
            if not connection.told:
                raise
        finally:
            try:
                await connection.finish()
            finally:
                self._open.discard(connection)

    def say_goodbye(self) -> None:
        """Tell every connection, and each that opens from now on, that it ends."""
        self._ending = True
        for connection in self._open:
            connection.say_goodbye()
