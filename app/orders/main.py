"""Wires the service, and does nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from fastapi import FastAPI

from orders import middleware
from orders.api import docs, jwks, page
from orders.api.v1 import (
    api_keys,
    auth,
    events,
    files,
    order_export,
    orders,
    payments,
    products,
    reports,
    tasks,
    tickets,
    users,
    ws,
)
from orders.core import errors, openapi
from orders.core.cache import Cache
from orders.core.database import (
    create_engine,
    create_export_engine,
    create_read_engine,
    create_readers,
    create_sessions,
)
from orders.core.exports import Exports
from orders.core.passwords import Passwords
from orders.core.rate_counts import RateCounts
from orders.core.replica import Replica
from orders.core.rows import lease_from
from orders.core.settings import OrdersSettings
from orders.core.shared import Shared
from orders.core.tokens import Tokens
from orders.models import Base, conflicts
from orders.outbound.payment_provider import open_provider
from orders.repositories.lookups import Lookups
from orders.storage import open_storage
from orders.stream.hub import Hub
from orders.tasks.clearing import clearing
from tidegate import Tidegate, read_settings


def create_app(settings: OrdersSettings | None = None) -> FastAPI:
    """Create the service.

    Raises:
        SettingsError: the environment does not hold what it needs.
    """
    settings = settings or read_settings(OrdersSettings)
    engine, read_engine = create_engine(settings), create_read_engine(settings)
    exports = Exports(create_export_engine(settings), settings.export_seconds)
    shared = Shared(settings.cache_url.get_secret_value()) if settings.cache_url else None
    cache = Cache(settings.cache_seconds, shared) if settings.cache_seconds else None

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with (
            open_provider(settings) as app.state.payments,
            hub.running(installed.wait_for_drain),
            clearing(app.state.sessions, app.state.storage),
        ):
            yield
        await close()

    async def close() -> None:
        await exports.close()
        if cache:
            await cache.close()
        if shared:
            await shared.close()
        if read_engine:
            await read_engine.dispose()
        await engine.dispose()

    app = FastAPI(
        title="Orders",
        lifespan=lifespan,
        docs_url=None,  # orders.api.docs, whose page may run no script but its own
        redoc_url=None,
        openapi_url="/api/openapi.json",
        generate_unique_id_function=openapi.operation_id,
    )
    app.state.settings = settings
    app.state.close = close  # for whoever uses it without its lifespan
    app.state.shared = shared
    app.state.cache = cache
    app.state.replica = Replica(create_sessions(read_engine) if read_engine else None)
    app.state.sessions = create_sessions(engine, cache.forget if cache else None)
    app.state.readers = create_readers(engine)
    app.state.lookups = Lookups(lease_from(engine))
    app.state.storage = open_storage(settings)
    app.state.exports = exports
    app.state.payments = None  # until it has started
    app.state.hub = hub = Hub(settings, app.state.sessions)
    app.state.passwords = Passwords(settings.password_hashes_at_once)
    app.state.tokens = Tokens(
        settings.key_ring(),
        settings.jwt_issuer,
        settings.jwt_audience,
        timedelta(seconds=settings.access_token_seconds),
    )
    app.state.counts = counts = RateCounts(shared)
    middleware.install(app, settings, counts)  # says what is around what, and why
    errors.install(app, conflicts(Base.metadata))
    openapi.install(app)
    for resource in (  # each is asked in turn, so the busiest come first
        order_export,  # before orders, which takes any name for an id
        orders,
        products,
        auth,
        users,
        api_keys,
        payments,
        reports,
        files,
        tasks,
        events,
        tickets,
        ws,
    ):
        app.include_router(resource.router, prefix="/api/v1")
    app.include_router(jwks.router)
    app.include_router(docs.router)
    app.include_router(page.router)
    installed = Tidegate(app, engine=engine)
    installed.add_check("events", hub.check, blocking=False)
    if shared:
        installed.add_check("cache", shared.check, blocking=False)
    return app


def __getattr__(name: str) -> FastAPI:
    # `orders.main:app` is made when a server asks for it: importing a module reads no settings.
    if name == "app":
        return create_app()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
