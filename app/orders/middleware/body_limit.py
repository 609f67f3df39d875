"""How large a body may be, counted as it comes: what a header says of it is only a hint."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orders.core.errors import ProblemResponse


class BodyLimit:
    """Refuses bodies that are too large with 413, as soon as that is known.

    Args:
        app: what is inside.
        most: bytes.
        elsewhere: lower limits for the paths that begin so; ``None`` where the route counts itself.
    """

    def __init__(
        self, app: ASGIApp, most: int, elsewhere: Mapping[str, int | None] | None = None
    ) -> None:
        self._app = app
        self._most = most
        self._elsewhere = dict(elsewhere or {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        most = self._limit(scope["path"]) if scope["type"] == "http" else None
        if most is None:
            await self._app(scope, receive, send)
            return
        if _announced(scope) > most:
            # The connection ends, too: whatever of the body is on its way is not read.
            refusal = ProblemResponse(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _detail(most), headers={"connection": "close"}
            )
            await refusal(scope, receive, send)
            return
        received = 0

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > most:
                    # Of this class: whoever reads a body for a route lets it pass.
                    raise HTTPException(
                        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                        _detail(most),
                        headers={"connection": "close"},
                    )
            return message

        await self._app(scope, receive_counted, send)

    def _limit(self, path: str) -> int | None:
        for start, most in self._elsewhere.items():
            if path.startswith(start):
                return most and min(most, self._most)
        return self._most


def _announced(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


def _detail(most: int) -> str:
    return f"the body is larger than the {most} bytes that are read here"
