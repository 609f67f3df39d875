"""A connection whose answer did not come in time is ended at once, and nothing more asked of it.

SQLAlchemy would roll back on it first, and then close it politely: each of these waits for the same
server that did not answer, and so does the request.
"""

from __future__ import annotations

from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection, ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import ConnectionPoolEntry


def end_hanging_connections(engine: AsyncEngine) -> None:
    """Give up connections of the engine on which a statement has timed out."""

    def give_up(context: ExceptionContext) -> None:
        if isinstance(context.original_exception, TimeoutError):
            context.is_disconnect = True
            context.invalidate_pool_on_disconnect = False  # it may have been that statement alone

    def end(connection: DBAPIConnection, _: ConnectionPoolEntry, __: BaseException | None) -> None:
        connection.driver_connection.terminate()

    event.listen(engine.sync_engine, "handle_error", give_up)
    event.listen(engine.sync_engine, "invalidate", end)
