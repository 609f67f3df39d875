"""uvicorn's WebSocket protocol, which forgets the handshake once it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent


class LeanWebSocketProtocol(WebSocketsSansIOProtocol):
    """Holds no headers of an open connection: 4 kB of it, and the client's credentials."""

    def start_keepalive(self) -> None:
        """Begin to ping: what uvicorn does when it has sent the answer to the handshake."""
        super().start_keepalive()
        # Emptied, not deleted: the parser, a generator, holds the request as well.
        self.request.headers.clear()
        self.response.headers.clear()

    async def send(self, message: ASGISendEvent) -> None:
        """Send a message; note the end of a refusal, which uvicorn logs as a fault of ours."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True
