"""Wires the service, and does nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI

from orders.api.v1 import orders, products
from orders.core import errors
from orders.core.database import create_engine, create_sessions
from orders.core.settings import OrdersSettings
from tidegate import Tidegate
from tidegate.settings import read_settings


def create_app(settings: OrdersSettings | None = None) -> FastAPI:
    """Create the service.

    Raises:
        SettingsError: the environment does not hold what it needs.
    """
    engine = create_engine(settings or read_settings(OrdersSettings))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await engine.dispose()

    app = FastAPI(
        title="Orders",
        lifespan=lifespan,
        docs_url="/api/docs",
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )
    app.state.sessions = create_sessions(engine)
    errors.install(app)
    v1 = APIRouter(prefix="/api/v1")
    v1.include_router(products.router)
    v1.include_router(orders.router)
    app.include_router(v1)
    Tidegate(app, engine=engine)
    return app


def __getattr__(name: str) -> FastAPI:
    # `orders.main:app` is made when a server asks for it: importing a module reads no settings.
    if name == "app":
        return create_app()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
