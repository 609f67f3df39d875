"""Connections for health checks, which a pool that slow requests have emptied must not fail.

Such a pool is a matter of load: if readiness waited in its queue, every pod would be unready at
the same moment, and a slow service would be a dead one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from tidegate.pool import read_pool


class CheckConnections:
    """Lends connections of the engine's pool, or one beside it while the pool has none to lend.

    A database must therefore allow each process one connection more than its pool; it is open
    only while a check runs on an exhausted pool.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._one_at_a_time = asyncio.Lock()

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncConnection]:
        """Open a connection for one check.

        Raises:
            SQLAlchemyError, OSError: as the engine's own ``connect()``.
        """
        state = read_pool(self._engine)
        if state is None or not state.exhausted:
            async with self._engine.connect() as connection:
                yield connection
        else:
            async with self._one_at_a_time, _beside_the_pool(self._engine) as connection:
                yield connection


@asynccontextmanager
async def _beside_the_pool(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    # An empty copy of the pool: it connects as the service does (connect_args, creator, token and
    # connect listeners), which the URL alone would not.
    beside = create_async_engine(engine.url, pool=engine.pool.recreate())
    try:
        async with beside.connect() as connection:
            yield connection
    finally:
        await beside.dispose()
