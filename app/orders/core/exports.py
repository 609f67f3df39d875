"""Exports: long reads, with connections of their own, so that they never wait for each other's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine

from orders.core.errors import BusyError

Sink = Callable[[bytes], Awaitable[None]]


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

    async def copy(self, query: str, sink: Sink) -> None:
        """Send a query's rows to the sink as CSV with a header, chunk by chunk.

        The server runs the query as it would a cursor's: it makes rows as they are taken, and while
        the sink is busy nothing is read, so it waits. Neither side ever holds the result. If this
        is cancelled, or the sink fails, the server is told to stop, and the transaction ends.

        Raises:
            BusyError: all connections are in use, or the export took too long.
        """
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

    async def close(self) -> None:
        """End the connections."""
        await self._engine.dispose()
