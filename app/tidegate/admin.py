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
from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tidegate.exposition import render
from tidegate.health import Checks, Health, Outcome
from tidegate.lifecycle import Lifecycle
from tidegate.ports import bind
from tidegate.settings import Settings, SettingsError

if TYPE_CHECKING:
    import uvicorn

logger = logging.getLogger(__name__)

_THREAD_NAME: Final = "tidegate-admin"
_STUCK_AFTER: Final = 1.0  # seconds without a turn of the service's event loop
_AGAIN_AFTER: Final = 1.0  # seconds until a server that ended is started again


class Admin:
    """Serves ``/health/*`` and ``/metrics`` between :meth:`start` and :meth:`stop`."""

    def __init__(self, settings: Settings, lifecycle: Lifecycle, checks: Checks) -> None:
        self._settings = settings
        self._lifecycle = lifecycle
        self._checks = checks
        self._app = Starlette(
            routes=[
                Route("/health/live", self._live),
                Route("/health/ready", self._ready),
                Route("/health/startup", self._startup),
                Route("/metrics", _metrics),
            ]
        )
        self._listener: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def bind(self) -> socket.socket:
        """Take the port, so that one in use is known before anything has started.

        Workers that are forked after this share it.

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
        self._loop = loop
        self._stopping.clear()
        # uvicorn has the same loggers for all its servers; this one has nothing new to tell.
        for name in ("uvicorn.error", "uvicorn.access"):
            logging.getLogger(name).addFilter(_not_from_here)
        self._thread = threading.Thread(target=self._run, name=_THREAD_NAME, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the port; returns when the thread has ended, or after a second."""
        self._stopping.set()
        if self._server:
            self._server.should_exit = True
        if self._thread:
            self._thread.join(timeout=1)
        if self._listener:
            self._listener.close()
        self._listener = self._server = self._thread = None

    def _run(self) -> None:
        import uvicorn

        config = uvicorn.Config(
            self._app,
            lifespan="off",
            log_config=None,
            server_header=False,
            workers=1,
            timeout_graceful_shutdown=1,
        )
        last = ""
        while not self._stopping.is_set():
            self._server = server = uvicorn.Server(config)
            try:
                # A copy: a server closes what it is given, and a worker could not bind it anew.
                listener = self.bind().dup()
                if not self._stopping.is_set():
                    asyncio.run(server.serve(sockets=[listener]))
                why = "it ended by itself"
            except SettingsError as error:
                # Only without `tidegate serve`, which asks for the port before it starts.
                why = (
                    f"{error}. Several workers can share one admin port under "
                    "`tidegate serve --workers`"
                )
            except BaseException as error:  # whatever it was, probes need an answer again
                why = type(error).__name__
            if why != last and not self._stopping.is_set():
                last = why
                logger.error("health and metrics are not served, trying again: %s", why)
            self._stopping.wait(_AGAIN_AFTER)

    async def _live(self, _: Request) -> Response:
        turn = asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self._loop)
        try:
            await asyncio.wait_for(asyncio.wrap_future(turn), _STUCK_AFTER)
        except TimeoutError:
            reason = f"the event loop has not turned for {_STUCK_AFTER:g} s"
            return JSONResponse({"status": "stuck", "reason": reason}, 503)
        return JSONResponse({"status": "ok"})

    async def _ready(self, _: Request) -> Response:
        answer = None if self._lifecycle.draining else await self._judge_health()
        if answer is None or self._lifecycle.draining:  # or since it was asked
            return JSONResponse({"status": "draining", "checks": {}}, 503)
        return answer

    async def _startup(self, _: Request) -> Response:
        if self._lifecycle.was_ready:
            return JSONResponse({"status": "ok"})
        return await self._judge_health()

    async def _judge_health(self) -> Response:
        if not self._lifecycle.started:
            return JSONResponse({"status": "starting", "checks": {}}, 503)
        health = await self._run_checks()
        if health.may_serve:
            self._lifecycle.was_ready = True
        body = {"status": health.status, "checks": health.as_dict()}
        return JSONResponse(body, 200 if health.may_serve else 503)

    async def _run_checks(self) -> Health:
        judged = asyncio.run_coroutine_threadsafe(self._checks.judge(), self._loop)
        # Longer than a check may take: only a stuck loop lets this one run out.
        patience = self._checks.timeout + _STUCK_AFTER
        try:
            return await asyncio.wait_for(asyncio.wrap_future(judged), patience)
        except TimeoutError:
            return Health({"event-loop": Outcome("the event loop is stuck", patience)})


def _metrics(request: Request) -> Response:  # not async: a slow collector holds up no probe
    body, content_type = render(request.headers.get("accept", ""))
    return Response(body, headers={"content-type": content_type})


def _not_from_here(record: logging.LogRecord) -> bool:
    return record.threadName != _THREAD_NAME or record.levelno >= logging.WARNING
