"""The engine, and one session per request."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)

from orders.core.settings import OrdersSettings
from tidegate.database import asyncpg_url


def create_engine(settings: OrdersSettings) -> AsyncEngine:
    """Create the engine; it connects on first use."""
    return create_async_engine(
        asyncpg_url(settings.database_url.get_secret_value()),
        pool_size=settings.database_pool_size,
        max_overflow=0,
        pool_timeout=settings.database_pool_timeout,
        # A connection that the database closed in the meantime costs a retry, not a request.
        pool_pre_ping=True,
        connect_args={"timeout": settings.database_pool_timeout},
    )


def create_sessions(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    """Create the factory of sessions; objects stay readable after a commit."""
    return async_sessionmaker(engine, expire_on_commit=False)
