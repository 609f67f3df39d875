"""Connections of the pool that died meanwhile are found before a request is given one.

SQLAlchemy's own ``pool_pre_ping`` asks at every checkout, which is three round trips with asyncpg:
more than reading an order takes. A connection that was in use a moment ago is not asked here.
"""

from __future__ import annotations

from time import monotonic
from typing import Final

from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

IDLE: Final = 5.0
"""Seconds without use after which a connection is asked whether it lives."""

_USED: Final = "used at"


def ping_idle_connections(engine: AsyncEngine) -> None:
    """Replace what has died, and all connections that are older, when one is taken."""
    dialect = engine.sync_engine.dialect

    def look(
        connection: DBAPIConnection, entry: ConnectionPoolEntry, _: PoolProxiedConnection
    ) -> None:
        used = entry.info.get(_USED)
        if used is None:  # it was opened for this very request
            return
        # The first costs nothing: asyncpg has seen the server's end of the connection close.
        if connection.driver_connection.is_closed() or (
            monotonic() - used > IDLE and not _lives(connection)
        ):
            raise InvalidatePoolError

    def _lives(connection: DBAPIConnection) -> bool:
        try:
            return dialect.do_ping(connection)
        except dialect.loaded_dbapi.Error as error:
            if dialect.is_disconnect(error, connection, None):
                return False
            raise

    def note(_: DBAPIConnection | None, entry: ConnectionPoolEntry) -> None:
        entry.info[_USED] = monotonic()

    event.listen(engine.sync_engine, "checkout", look)
    event.listen(engine.sync_engine, "checkin", note)
