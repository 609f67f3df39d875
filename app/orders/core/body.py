"""A request's body as it comes, with a bound: in bytes, and in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import ClassVar

from starlette.requests import ClientDisconnect, Request

from orders.core.errors import DomainError


class TooLargeError(DomainError):
    """More was sent than is taken."""

    status: ClassVar[HTTPStatus] = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class TooSlowError(DomainError):
    """What was sent did not come in time."""

    status: ClassVar[HTTPStatus] = HTTPStatus.REQUEST_TIMEOUT


class CutOffError(DomainError):
    """The client has gone in the middle of its request; nobody reads the answer."""


async def bounded(request: Request, most: int) -> AsyncIterator[bytes]:
    """Yield the body's chunks.

    Args:
        request: its body is not yet read.
        most: bytes. Whatever a client says its length is: too much of it is refused before the
            first byte is read, and too little does not help.

    Raises:
        TooLargeError: there is more.
        CutOffError: the client has gone.
    """
    announced = request.headers.get("content-length", "")
    received = int(announced) if announced.isdecimal() and len(announced) < 20 else 0
    _refuse(received, most)
    received = 0
    try:
        async for chunk in request.stream():
            received += len(chunk)
            _refuse(received, most)
            if chunk:
                yield chunk
    except ClientDisconnect:
        raise CutOffError("the request ended in the middle") from None


async def at_most(content: AsyncIterator[bytes], most: int) -> AsyncIterator[bytes]:
    """Pass on the chunks of one file.

    Raises:
        TooLargeError: the file has more than ``most`` bytes.
    """
    received = 0
    async for chunk in content:
        received += len(chunk)
        if received > most:
            raise TooLargeError(f"a file may have {most} bytes, and this one has more")
        yield chunk


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """Let the block take so long and no longer.

    Raises:
        TooSlowError: it took longer.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise TooSlowError(f"the body did not come within {seconds:g} s") from None


def _refuse(received: int, most: int) -> None:
    if received > most:
        raise TooLargeError(f"a body may have {most} bytes here, and this one has more")
