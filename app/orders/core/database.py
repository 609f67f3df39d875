"""The engine, sessions, and the one boundary of a transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any, Final

from pydantic import SecretStr
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)

from orders.core.hanging import end_hanging_connections
from orders.core.pinging import ping_idle_connections
from orders.core.settings import OrdersSettings
from tidegate import asyncpg_url

Sessions = async_sessionmaker[AsyncSession]

Tell = Callable[[Collection[str]], Awaitable[None]]
"""Is told what a commit has changed, by topic."""

_OPEN: Final = "a transaction block is open"
_CHANGED: Final = "topics that the transaction changes"
_TELL: Final = "who is told of changes"
_READS: Final = "nothing is written on this session"

# A pooler lends another server connection to the next transaction: a statement that was prepared
# on one is missing on the other, or its name is taken there. One without a name ends by itself.
_NOTHING_PREPARED: Final[dict[str, Any]] = {
    "statement_cache_size": 0,  # asyncpg's
    "prepared_statement_cache_size": 0,  # SQLAlchemy's
    "prepared_statement_name_func": lambda: "",
}


def create_engine(settings: OrdersSettings) -> AsyncEngine:
    """Create the engine; it connects on first use."""
    return _engine(settings, settings.database_url)


def create_read_engine(settings: OrdersSettings) -> AsyncEngine | None:
    """Create the engine of the read replica, if there is one; it lets nothing be written."""
    if settings.database_read_url is None:
        return None
    engine = _engine(settings, settings.database_read_url)
    return engine.execution_options(postgresql_readonly=True)


def create_export_engine(settings: OrdersSettings) -> AsyncEngine:
    """Create the engine of exports: few connections, and statements may take their time.

    COPY writes times as the session's settings have them, so that these are set here.
    """
    return _engine(
        settings,
        settings.database_url,
        size=settings.exports_at_once,
        command_timeout=None,
        server_settings={"timezone": "UTC", "datestyle": "ISO"},
    )


def _engine(
    settings: OrdersSettings,
    url: SecretStr,
    *,
    size: int | None = None,
    **options: Any,  # noqa: ANN401 - asyncpg's
) -> AsyncEngine:
    engine = create_async_engine(
        asyncpg_url(url.get_secret_value()),
        pool_size=size or settings.database_pool_size,
        max_overflow=0,
        pool_timeout=settings.database_pool_timeout,
        connect_args={
            "timeout": settings.database_pool_timeout,
            "command_timeout": settings.database_command_timeout,
            **options,
            **(_NOTHING_PREPARED if settings.database_pooler else {}),
        },
    )
    # A connection that the database closed in the meantime costs a retry, not a request.
    ping_idle_connections(engine)
    end_hanging_connections(engine)
    return engine


def create_sessions(engine: AsyncEngine, tell: Tell | None = None) -> Sessions:
    """Create the factory of sessions; objects stay readable after a commit.

    Args:
        engine: where they connect.
        tell: is called after each commit that changes something which was noted by
            :func:`note_change`, before :func:`transaction` ends.
    """
    return async_sessionmaker(engine, expire_on_commit=False, info={_TELL: tell})


def create_readers(engine: AsyncEngine) -> Sessions:
    """Create the factory of sessions that only read: each statement by itself.

    Without BEGIN and ROLLBACK, which are two of the four round trips of reading an order.
    """
    alone = engine.execution_options(isolation_level="AUTOCOMMIT")
    return async_sessionmaker(alone, expire_on_commit=False, info={_READS: True})


def note_change(session: AsyncSession, topic: str) -> None:
    """Let caches hear, once it is committed, that the transaction changes what ``topic`` names."""
    session.info.setdefault(_CHANGED, set()).add(topic)


@asynccontextmanager
async def transaction(session: AsyncSession) -> AsyncIterator[None]:
    """Commit what the block wrote, or nothing of it if the block raises.

    What was read before belongs to the same transaction. At the end the connection goes back to
    the pool, so slow work (a password, a call to another service) belongs between two blocks, not
    into one. Only services open blocks, one at a time.

    Raises:
        RuntimeError: a block is open on this session already, or it is one that only reads.
    """
    if session.info.get(_READS):
        raise RuntimeError("a request that only reads opens no transaction block")
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
        session.info.pop(_CHANGED, None)
        await session.rollback()
        raise
    finally:
        del session.info[_OPEN]
    changed, tell = session.info.pop(_CHANGED, None), session.info.get(_TELL)
    if changed and tell:
        await tell(changed)
