"""An answer whose body is pushed by what makes it, for as long as somebody listens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

Push = Callable[[Callable[[bytes], Awaitable[None]]], Awaitable[None]]


class PushedResponse(Response):
    """Begins with the first chunk, so that what fails before it is answered as an error.

    When the client goes, the push is cancelled: a server that has nobody to send to takes all that
    it is given without a word. When the push fails in the middle, so does the answer: without its
    end a client can tell that it is not whole.

    Args:
        push: is called with what sends a chunk, which takes as long as the client does.
        media_type: of the body.
        headers: of the answer.
    """

    def __init__(self, push: Push, *, media_type: str, headers: Mapping[str, str]) -> None:
        self._push = push
        self.status_code = 200
        self.background = None
        self.media_type = media_type
        self.init_headers(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        begun = False

        async def begin() -> None:
            nonlocal begun
            if not begun:
                begun = True
                start = {"type": "http.response.start", "status": self.status_code}
                await send({**start, "headers": self.raw_headers})

        async def put(chunk: bytes) -> None:
            await begin()
            await send({"type": "http.response.body", "body": chunk, "more_body": True})

        pushing = asyncio.ensure_future(self._push(put))
        listening = asyncio.ensure_future(_until_gone(receive))
        try:
            await asyncio.wait({pushing, listening}, return_when=asyncio.FIRST_COMPLETED)
            if pushing.done():
                pushing.result()
                await begin()
                await send({"type": "http.response.body"})
        finally:
            pushing.cancel()
            listening.cancel()
            await asyncio.gather(pushing, listening, return_exceptions=True)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
