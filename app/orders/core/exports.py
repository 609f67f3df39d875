"""Exports: long reads, with connections of their own, so that they never wait for each other's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID

from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine

from orders.core.errors import BusyError, TooManyError

Sink = Callable[[bytes], Awaitable[None]]

STANDSTILL: Final = 10.0
"""Seconds that a reader may take for one chunk, which is a few kB."""


class Exports:
    """A small pool, and what is read through it.

    Args:
        engine: as many connections as there may be exports at a time.
        seconds: how long one may take: a reader that is slow, or stands still, keeps the database
            from clearing up behind it.
    """

    def __init__(self, engine: AsyncEngine, seconds: float) -> None:
        self._engine = engine
        self._seconds = seconds
        self._served: set[UUID] = set()

    async def copy(self, query: str, user_id: UUID, sink: Sink) -> None:
        """Send a query's rows to the sink as CSV with a header, chunk by chunk.

        The server runs the query as it would a cursor's: it makes rows as they are taken, and while
        the sink is busy nothing is read, so it waits. Neither side ever holds the result. If this
        is cancelled, or the sink fails, the server is told to stop, and the transaction ends.

        Raises:
            TooManyError: the user is sent an export already.
            BusyError: all connections are in use, the export took too long, or its reader stands
                still.
        """

        async def give(chunk: bytes) -> None:
            try:
                async with asyncio.timeout(STANDSTILL):
                    await sink(chunk)
            except TimeoutError:
                raise BusyError(f"nobody took any of the export for {STANDSTILL:g} s") from None

        async with self._one_for(user_id):
            await self._copy(query, give)

    async def _copy(self, query: str, sink: Sink) -> None:
        try:
            connection = await self._engine.connect()
        except PoolTimeoutError:
            raise BusyError(
                "as many exports are being made as there may be at a time; try again later"
            ) from None
        try:
            async with asyncio.timeout(self._seconds):
                driver = (await connection.get_raw_connection()).driver_connection
                assert driver is not None  # noqa: S101 - it is connected
                await driver.copy_from_query(query, output=sink, format="csv", header=True)
        except TimeoutError:
            raise BusyError(f"the export did not end within {self._seconds:g} s") from None
        finally:
            await connection.close()

    @asynccontextmanager
    async def _one_for(self, user_id: UUID) -> AsyncIterator[None]:
        """So that nobody takes the places of all others."""
        if user_id in self._served:
            raise TooManyError("you are sent an export already; wait for its end")
        self._served.add(user_id)
        try:
            yield
        finally:
            self._served.remove(user_id)

    async def close(self) -> None:
        """End the connections."""
        await self._engine.dispose()
