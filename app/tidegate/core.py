"""``Tidegate(app)``: what an application installs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from prometheus_fastapi_instrumentator import Instrumentator
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tidegate.admin import Admin
from tidegate.health import Check
from tidegate.hook import Hook
from tidegate.lifecycle import Lifecycle
from tidegate.settings import Settings, read_settings
from tidegate.verdict import SchemaCheck, read_manifest


class Tidegate:
    """Gives a FastAPI application health, metrics, drain and the schema verdict.

    Args:
        app: the application; its lifespan keeps running inside ours.
        engine: its database. With it come the checks ``database`` and, where
            ``TIDEGATE_MANIFEST`` names the shipped revisions, ``schema``.
        settings: defaults to the environment's.

    Raises:
        SettingsError: the environment holds a value that is not allowed.
    """

    def __init__(
        self,
        app: FastAPI,
        *,
        engine: AsyncEngine | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.settings = settings or read_settings(Settings)
        self.lifecycle = Lifecycle()
        self._checks: dict[str, Check] = {}
        if engine is not None:
            self._watch(engine)
        Instrumentator().instrument(app)
        app.add_middleware(Hook, lifecycle=self.lifecycle)
        self.admin = Admin(self.settings, self.lifecycle, self._checks)
        self._wrap_lifespan(app)
        app.state.tidegate = self

    def add_check(self, name: str, check: Check) -> None:
        """Let readiness depend on ``check``: returning is healthy, raising is not."""
        self._checks[name] = check

    def _watch(self, engine: AsyncEngine) -> None:
        async def database() -> None:
            async with engine.connect() as connection:
                await connection.execute(text("SELECT 1"))

        self.add_check("database", database)
        if self.settings.manifest:
            manifest = read_manifest(self.settings.manifest)
            within = self.settings.check_timeout * 0.75
            self.add_check("schema", SchemaCheck(manifest, engine, self.lifecycle, within=within))

    def _wrap_lifespan(self, app: FastAPI) -> None:
        inner = app.router.lifespan_context

        @asynccontextmanager
        async def lifespan(started: Any) -> AsyncIterator[Any]:  # noqa: ANN401 - as Starlette's
            # Before the application's own startup: probes are answered while it takes its time.
            self.admin.start(asyncio.get_running_loop())
            try:
                async with inner(started) as state:
                    self.lifecycle.started = True
                    yield state
            finally:
                # Waits for the admin thread to end, which must not block this loop.
                await asyncio.to_thread(self.admin.stop)

        app.router.lifespan_context = lifespan
