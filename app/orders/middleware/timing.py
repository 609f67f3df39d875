"""How long the service took, for a browser's developer tools (`Server-Timing`)."""

from __future__ import annotations

from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class ServerTiming:
    """Tells in each answer's head how many milliseconds passed before it began."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = perf_counter()

        async def send_timed(message: Message) -> None:
            if message["type"] == "http.response.start":
                taken = b"app;dur=%.1f" % ((perf_counter() - began) * 1000)
                message = {
                    **message,
                    "headers": [*message.get("headers", ()), (b"server-timing", taken)],
                }
            await send(message)

        await self._app(scope, receive, send_timed)
