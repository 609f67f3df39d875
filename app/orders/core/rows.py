"""Rows straight from the driver: for what nearly every request reads.

SQLAlchemy takes several times as long to hand over a row as PostgreSQL and asyncpg take to find
it. So the few reads that every request makes go past it, on a connection of the same pool: its
size, its time-outs and the search for dead connections are theirs as well.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

Lease = Callable[[], AbstractAsyncContextManager[Any]]
"""Lends asyncpg's own connection for a moment."""


class Rows:
    """Sends statements that only read, each by itself and outside of any transaction.

    Args:
        lease: where to send them.
    """

    def __init__(self, lease: Lease) -> None:
        self._lease = lease

    async def read(self, query: str, *values: object) -> Sequence[asyncpg.Record]:
        """Read all rows; ``$1`` in the query stands for the first value.

        Raises:
            DBAPIError: the database refuses, or has gone, as from a session.
            TimeoutError: no connection was free in time (SQLAlchemy's), or no answer came.
        """
        async with self._lease() as connection:
            try:
                found: Sequence[asyncpg.Record] = await connection.fetch(query, *values)
            except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                gone = connection.is_closed()
                raise DBAPIError(query, None, error, connection_invalidated=gone) from error
            return found


def lease_from(engine: AsyncEngine) -> Lease:
    """Lend connections of an engine's pool."""

    @asynccontextmanager
    async def lease() -> AsyncIterator[Any]:
        try:
            taken = await engine.raw_connection()
        except engine.dialect.loaded_dbapi.Error as error:
            raise DBAPIError(None, None, error) from error
        try:
            yield taken.driver_connection
        except DBAPIError:
            raise  # that was the answer: the connection is as good as before, or known to be closed
        except BaseException as error:
            taken.invalidate(error)  # nobody waits any more, and an answer may still be on its way
            raise
        finally:
            taken.close()

    return lease
