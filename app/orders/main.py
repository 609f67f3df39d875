"""Wires the service, and does nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from fastapi import APIRouter, FastAPI

from orders.api import jwks
from orders.api.v1 import api_keys, auth, orders, products, reports, tasks, users
from orders.core import errors, openapi
from orders.core.database import create_engine, create_sessions
from orders.core.passwords import Passwords
from orders.core.settings import OrdersSettings
from orders.core.tokens import Tokens
from orders.models import Base, conflicts
from orders.outbound.payment_provider import open_provider
from tidegate import Tidegate
from tidegate.settings import read_settings


def create_app(settings: OrdersSettings | None = None) -> FastAPI:
    """Create the service.

    Raises:
        SettingsError: the environment does not hold what it needs.
    """
    settings = settings or read_settings(OrdersSettings)
    engine = create_engine(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_provider(settings) as app.state.payments:
            yield
        await engine.dispose()

    app = FastAPI(
        title="Orders",
        lifespan=lifespan,
        docs_url="/api/docs",
        redoc_url=None,
        openapi_url="/api/openapi.json",
        generate_unique_id_function=openapi.operation_id,
    )
    app.state.settings = settings
    app.state.sessions = create_sessions(engine)
    app.state.payments = None  # until it has started
    app.state.passwords = Passwords(settings.password_hashes_at_once)
    app.state.tokens = Tokens(
        settings.key_ring(),
        settings.jwt_issuer,
        settings.jwt_audience,
        timedelta(seconds=settings.access_token_seconds),
    )
    errors.install(app, conflicts(Base.metadata))
    openapi.install(app)
    v1 = APIRouter(prefix="/api/v1")
    for resource in (auth, users, api_keys, products, orders, reports, tasks):
        v1.include_router(resource.router)
    app.include_router(v1)
    app.include_router(jwks.router)
    Tidegate(app, engine=engine)
    return app


def __getattr__(name: str) -> FastAPI:
    # `orders.main:app` is made when a server asks for it: importing a module reads no settings.
    if name == "app":
        return create_app()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
