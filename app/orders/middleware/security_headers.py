"""What a browser may do with an answer."""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

# For answers that are no pages. A page says more in a Content-Security-Policy of its own.
_ALWAYS: Final = (
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),  # for browsers that do not know frame-ancestors
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-site"),
    # Whatever is between us and the client must not keep what was for one user; that it has
    # credentials is not to be seen where they are in X-API-Key.
    (b"cache-control", b"no-store"),
)
_BY_TLS: Final = (*_ALWAYS, (b"strict-transport-security", b"max-age=31536000"))


class SecurityHeaders:
    """Adds the headers that the answer does not have itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        wanted = _BY_TLS if scope["scheme"] == "https" else _ALWAYS

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                named = {name for name, _ in headers}
                headers.extend(each for each in wanted if each[0] not in named)
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, send_secured)
