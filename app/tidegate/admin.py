"""The admin port: health and metrics, in a thread of its own.

A thread with its own event loop, because liveness must notice that the service's loop is
stuck, and because probes must not queue behind requests. Checks themselves run on the
service's loop: its pools live there.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Mapping

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tidegate.health import Check, Health, run_checks
from tidegate.lifecycle import Lifecycle
from tidegate.ports import bind
from tidegate.settings import Settings

_THREAD_NAME = "tidegate-admin"
_STUCK_AFTER = 1.0  # seconds without a turn of the service's event loop


class Admin:
    """Serves ``/health/*`` and ``/metrics`` between :meth:`start` and :meth:`stop`."""

    def __init__(
        self, settings: Settings, lifecycle: Lifecycle, checks: Mapping[str, Check]
    ) -> None:
        self._settings = settings
        self._lifecycle = lifecycle
        self._checks = checks
        app = Starlette(
            routes=[
                Route("/health/live", self._live),
                Route("/health/ready", self._ready),
                Route("/health/startup", self._startup),
                Route("/metrics", _metrics),
            ]
        )
        self._config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False)
        self._listener: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def bind(self) -> socket.socket:
        """Take the port, so that one in use is known before anything has started.

        Raises:
            SettingsError: the port is taken.
        """
        if self._listener is None:
            self._listener = bind(self._settings.host, self._settings.admin_port, "ADMIN_PORT")
            # At once, unlike the service's: a probe may wait for an answer, and two sockets that
            # are only bound could share the port.
            self._listener.listen()
        return self._listener

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Answer on the port; ``loop`` is the service's, on which checks run."""
        listener = self.bind()
        self._loop = loop
        self._server = server = uvicorn.Server(self._config)
        # uvicorn has one logger for all its servers; this one has nothing new to tell.
        logging.getLogger("uvicorn.error").addFilter(_not_from_here)
        self._thread = threading.Thread(
            target=lambda: asyncio.run(server.serve(sockets=[listener])),
            name=_THREAD_NAME,
            daemon=True,
        )
        self._thread.start()

    def stop(self) -> None:
        """Close the port; returns when the thread has ended."""
        if self._server and self._thread:
            self._server.should_exit = True
            self._thread.join(timeout=5)
        self._listener = self._server = self._thread = None

    async def _live(self, _: Request) -> Response:
        turn = asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self._loop)
        try:
            await asyncio.wait_for(asyncio.wrap_future(turn), _STUCK_AFTER)
        except TimeoutError:
            reason = f"the event loop has not turned for {_STUCK_AFTER:g} s"
            return JSONResponse({"status": "stuck", "reason": reason}, 503)
        return JSONResponse({"status": "ok"})

    async def _ready(self, _: Request) -> Response:
        if self._lifecycle.draining:
            return JSONResponse({"status": "draining", "checks": {}}, 503)
        return await self._judge_health()

    async def _startup(self, _: Request) -> Response:
        if self._lifecycle.was_ready:
            return JSONResponse({"status": "ok"})
        return await self._judge_health()

    async def _judge_health(self) -> Response:
        if not self._lifecycle.started:
            return JSONResponse({"status": "starting", "checks": {}}, 503)
        health = await self._run_checks()
        if health.ok:
            self._lifecycle.was_ready = True
        status = "ok" if health.ok else "unready"
        body = {"status": status, "checks": health.as_dict()}
        return JSONResponse(body, 200 if health.ok else 503)

    async def _run_checks(self) -> Health:
        timeout = self._settings.check_timeout
        round_ = asyncio.run_coroutine_threadsafe(
            run_checks(self._checks, within=timeout), self._loop
        )
        try:
            # Longer than a check may take: only a stuck loop lets this one run out.
            return await asyncio.wait_for(asyncio.wrap_future(round_), timeout + _STUCK_AFTER)
        except TimeoutError:
            return Health({"event-loop": "the event loop is stuck"})


async def _metrics(_: Request) -> Response:
    return Response(generate_latest(), headers={"content-type": CONTENT_TYPE_LATEST})


def _not_from_here(record: logging.LogRecord) -> bool:
    return record.threadName != _THREAD_NAME or record.levelno >= logging.WARNING
