"""The answer to a fault, inside of all other middleware.

Starlette answers what nobody handles outside of all middleware: such a 500 would have no CORS
headers, and a page of another origin could not even read that it is one. Here it gets what any
answer gets; then the exception goes on to where it is logged and counted.
"""

from __future__ import annotations

from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orders.core.errors import ProblemResponse


class Faults:
    """Answers an exception with 500, if nothing has been answered yet, and raises it again."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def send_noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_noting)
        except Exception:
            if not begun:
                detail = (
                    "the service has a fault; its log knows more under the X-Request-ID of this "
                    "answer"
                )
                refusal = ProblemResponse(HTTPStatus.INTERNAL_SERVER_ERROR, detail)
                await refusal(scope, receive, send)
            raise
