"""``Tidegate(app)``: what an application installs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.types import ASGIApp

from tidegate import logs, sentry, traces
from tidegate.access import AccessLog, ConsoleAccessLog, JsonAccessLog
from tidegate.admin import Admin
from tidegate.health import Check, Checks
from tidegate.hook import Hook
from tidegate.instrumentations import Instrumentation, Instrumentations
from tidegate.ledger import Ledger
from tidegate.lifecycle import Lifecycle
from tidegate.lifespan import surround
from tidegate.metrics import http_metrics
from tidegate.routes import RouteTemplates
from tidegate.scrub import Scrubber
from tidegate.settings import Settings, read_settings
from tidegate.vitals import Sources, Vitals

if TYPE_CHECKING:  # an application without a database has no SQLAlchemy to import
    from sqlalchemy.ext.asyncio import AsyncEngine


class Tidegate:
    """Gives a FastAPI application hooks, health, drain and the schema verdict.

    Args:
        app: the application; its lifespan keeps running inside ours, its middleware inside the
            hook.
        engine: its database. With it come the checks ``database`` and, where
            ``TIDEGATE_MANIFEST`` names the shipped revisions, ``schema`` and the heartbeat, and
            spans of its statements.
        settings: defaults to the environment's.

    Raises:
        SettingsError: the environment holds a value that is not allowed.
        RuntimeError: the application has it already.
    """

    def __init__(
        self,
        app: FastAPI,
        *,
        engine: AsyncEngine | None = None,
        settings: Settings | None = None,
    ) -> None:
        if getattr(app.state, "tidegate", None) is not None:
            raise RuntimeError("Tidegate(app) was called before for this app; call it once")
        self.settings = settings or read_settings(Settings)
        # At once: what is registered under these names later knows to stand back.
        self._metrics = http_metrics() if self.settings.metrics else None
        self.lifecycle = Lifecycle()
        self._instrumentations = Instrumentations()
        self._writer = logs.install(self.settings)
        self._traces = traces.install(self.settings, Scrubber(self.settings.scrub_keys))
        self._sentry = sentry.install(self.settings)
        self._checks = Checks(
            timeout=self.settings.check_timeout,
            cache=self.settings.check_cache,
            wrap=traces.unrecorded if self._traces.exist else None,
        )
        self.lifecycle.flushers["spans"] = self._traces.flush
        if self._sentry:
            self.lifecycle.flushers["events"] = self._sentry.flush
        if self._writer:
            self.lifecycle.flushers["log lines"] = self._writer.flush
        self._hook: Hook | None = None
        self._beating: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
        if engine is not None:
            self._watch(engine)
            if self._traces.exist:
                traces.instrument_engine(engine)
        self._install_hook(app)
        self._vitals = Vitals(self._sources(engine), app.title, app.version)
        self.admin = Admin(self.settings, self.lifecycle, self._checks)
        self._wrap_lifespan(app)
        app.state.tidegate = self

    def add_check(self, name: str, check: Check, *, blocking: bool = True) -> None:
        """Let readiness depend on ``check``, an async function without parameters.

        Returning ``None`` or ``True`` is healthy, raising is not. If it fails, the service is
        unready; with ``blocking=False`` it serves on and says ``degraded``.

        Raises:
            TypeError: ``check`` is no async function.
        """
        self._checks.add(name, check, blocking=blocking)

    async def wait_for_drain(self) -> None:
        """Wait until the process should come to its end: for WebSockets and streams that only send.

        Returns when the drain delay after SIGTERM is over. ``TIDEGATE_DRAIN_TIMEOUT`` seconds
        are left then, after which the connection is cut.
        """
        await self.lifecycle.ending.wait()

    def add_instrumentation(self, *functions: Instrumentation | None) -> None:
        """Call these for each request, as prometheus-fastapi-instrumentator's ``add`` does."""
        self._instrumentations.add(*functions)

    def note_refusal(self, status: int) -> tuple[tuple[bytes, bytes], ...]:
        """Count and log a request that the server refuses itself; return the headers of its ids."""
        return self._hook.note_refusal(status) if self._hook else ()

    def _install_hook(self, app: FastAPI) -> None:
        build = app.build_middleware_stack
        if self._traces.tracing:
            _silence_fastapi(app)  # its spans would be a second one, with query and texts

        def build_with_hook() -> ASGIApp:
            stack = build()
            tracing = self._traces.of(app, stack)
            access_log = self._access_log()
            self._hook = Hook(
                stack,
                routes=RouteTemplates(app),
                lifecycle=self.lifecycle,
                ledger=self._ledger(access_log),
                instrumentations=self._instrumentations,
                access_log=access_log,
                tracing=tracing,
                traced_app=tracing.wrap(app, stack) if tracing else None,
                read_parent=self._traces.read_parent,
                adopt=traces.adopt if self._traces.foreign else None,
                sentry=self._sentry,
                log_errors=self._writer is not None,  # else the server's own line is enough
            )
            return self._hook

        # Around Starlette's own error page, whose answer needs the ids as well.
        app.build_middleware_stack = build_with_hook  # type: ignore[method-assign]

    def _access_log(self) -> AccessLog | None:
        if self._writer is None or not self.settings.access_log:
            return None
        if logs.effective_format(self.settings) == "json":
            return JsonAccessLog(self._writer.add, self.settings.log_level)
        return ConsoleAccessLog()

    def _ledger(self, access_log: AccessLog | None) -> Ledger | None:
        if self._metrics is None and access_log is None:
            return None
        return Ledger(self._metrics, access_log, self._writer)

    def _sources(self, engine: AsyncEngine | None) -> Sources:
        exporter, writer = self._traces.exporter, self._writer
        return Sources(
            in_flight=lambda: self._hook.in_flight if self._hook else 0,
            websockets=lambda: len(self.lifecycle.websockets),
            engine=engine,
            spans=lambda: (exporter.sent, exporter.dropped) if exporter else (0, 0),
            lost_lines=lambda: writer.dropped if writer else 0,
        )

    def _watch(self, engine: AsyncEngine) -> None:
        from sqlalchemy import text

        from tidegate.check_connection import CheckConnections
        from tidegate.heartbeat import Heartbeat
        from tidegate.verdict import SchemaCheck, read_manifest

        connections = CheckConnections(engine)

        async def database() -> None:
            async with connections.connect() as connection:
                await connection.execute(text("SELECT 1"))

        self.add_check("database", database)
        if self.settings.manifest:
            manifest = read_manifest(self.settings.manifest)
            within = self.settings.check_timeout * 0.75
            check = SchemaCheck(manifest, connections, self.lifecycle, within=within)
            self.add_check("schema", check)
            wrap = traces.unrecorded if self._traces.exist else None
            self._beating = Heartbeat(connections, manifest, check.look, wrap=wrap).beating

    def _wrap_lifespan(self, app: FastAPI) -> None:
        inner = app.router.lifespan_context

        @asynccontextmanager
        async def lifespan(started: Any) -> AsyncIterator[Any]:  # noqa: ANN401 - as Starlette's
            logs.install(self.settings)  # again: uvicorn.run(app) has put its own handlers in
            self._vitals.start(asyncio.get_running_loop())
            try:
                around = surround(inner(started), self.lifecycle, self.admin)
                async with around as state, self._beating():
                    if not _fastapi_has_providers(app):
                        _silence_fastapi(app)  # it asks for them at every request
                    yield state
            finally:
                self._vitals.stop()

        app.router.lifespan_context = lifespan


def _fastapi_has_providers(app: FastAPI) -> bool:
    telemetry = getattr(app, "_native_telemetry", None)
    return telemetry is not None and bool(telemetry.enabled())


def _silence_fastapi(app: FastAPI) -> None:
    """Switch off the telemetry of FastAPI itself, as FastAPI(telemetry=...) would have.

    It wakes as soon as a TracerProvider is set; once the application is made there is no public
    way to tell it not to.
    """
    config: dict[str, Any] = getattr(app, "_telemetry", {})
    config.update(tracing=False, metrics=False, logs=False)
