"""The engine, sessions, and the one boundary of a transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)

from orders.core.settings import OrdersSettings
from tidegate.database import asyncpg_url

Sessions = async_sessionmaker[AsyncSession]

_OPEN: Final = "a transaction block is open"

# A pooler lends another server connection to the next transaction: a statement that was prepared
# on one is missing on the other, or its name is taken there. One without a name ends by itself.
_NOTHING_PREPARED: Final[dict[str, Any]] = {
    "statement_cache_size": 0,  # asyncpg's
    "prepared_statement_cache_size": 0,  # SQLAlchemy's
    "prepared_statement_name_func": lambda: "",
}


def create_engine(settings: OrdersSettings) -> AsyncEngine:
    """Create the engine; it connects on first use."""
    return create_async_engine(
        asyncpg_url(settings.database_url.get_secret_value()),
        pool_size=settings.database_pool_size,
        max_overflow=0,
        pool_timeout=settings.database_pool_timeout,
        # A connection that the database closed in the meantime costs a retry, not a request.
        pool_pre_ping=True,
        connect_args={
            "timeout": settings.database_pool_timeout,
            "command_timeout": settings.database_command_timeout,
            **(_NOTHING_PREPARED if settings.database_pooler else {}),
        },
    )


def create_sessions(engine: AsyncEngine) -> Sessions:
    """Create the factory of sessions; objects stay readable after a commit."""
    return async_sessionmaker(engine, expire_on_commit=False)


@asynccontextmanager
async def transaction(session: AsyncSession) -> AsyncIterator[None]:
    """Commit what the block wrote, or nothing of it if the block raises.

    What was read before belongs to the same transaction. At the end the connection goes back to
    the pool, so slow work (a password, a call to another service) belongs between two blocks, not
    into one. Only services open blocks, one at a time.

    Raises:
        RuntimeError: a block is open on this session already.
    """
    if session.info.get(_OPEN):
        raise RuntimeError(
            "a transaction block is open on this session: call what needs one of its own after it, "
            "or let it take part as a repository does"
        )
    session.info[_OPEN] = True
    try:
        yield
        await session.commit()
    except BaseException:
        await session.rollback()
        raise
    finally:
        del session.info[_OPEN]
