"""The end of a process that loses no request.

On SIGTERM Kubernetes takes the pod out of its endpoints, but it takes seconds until every
node knows. uvicorn alone stops accepting at once; this server stays open for the drain delay,
unready and answering with ``Connection: close``. Then it stops accepting, WebSocket applications
have their say, and what is in flight has the drain time-out to end.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Final

import uvicorn

if TYPE_CHECKING:
    from tidegate.core import Tidegate

logger = logging.getLogger("uvicorn.error")

# Seconds after the drain time-out, for the application's own shutdown.
SHUTDOWN_RESERVE: Final = 2.0

# Seconds for threads and tasks that are still at work when all else is over.
_LAST_THREADS: Final = 0.5

# Seconds for the clients' own close frames.
_CLIENTS_TURN: Final = 1.0


class DrainingServer(uvicorn.Server):
    """Waits for the drain delay between SIGTERM and the stop, and ends without a signal."""

    def __init__(self, config: uvicorn.Config, installed: Tidegate) -> None:
        super().__init__(config)
        self._lifecycle = installed.lifecycle
        self._settings = installed.settings
        self._lifecycle.drains = True

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve, remembering what a signal handler must wake."""
        self._loop = asyncio.get_running_loop()
        self._serving = asyncio.current_task()
        try:
            await super().serve(sockets)
        except asyncio.CancelledError:
            if not self.should_exit:  # not by us
                raise
        finally:
            self._leave()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start; from here on, what is there now stays."""
        await super().startup(sockets)
        # To look through all of the application for garbage stops everybody for up to 0.2 s.
        gc.freeze()

    def _leave(self) -> None:
        """Exit, though a thread or a task does not end: Python would wait for it for ever.

        All that counts is done by now, and the grace period is nearly over.
        """

        def leave() -> None:
            logger.error("a thread or a task of the application does not end; leaving it behind")
            for flusher in self._lifecycle.flushers.values():
                flusher(0.5)
            os._exit(0 if self.started or self.should_exit else 3)

        timer = threading.Timer(_LAST_THREADS, leave)
        timer.daemon = True
        timer.start()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain on the first SIGTERM; stop on Ctrl-C or a second signal, abort on one more."""
        # uvicorn's own handler would raise the signal again when all is done: exit code 143.
        if sig == signal.SIGTERM and not self._lifecycle.draining:
            self.drain()
        else:
            self.force_exit = self.should_exit
            self.stop()

    def drain(self) -> None:
        """Turn unready now, and stop after the drain delay; safe in a signal handler."""
        self._lifecycle.draining = True
        if self.started:
            self._loop.call_soon_threadsafe(self._wait)
        else:  # nobody asks yet
            self.stop()

    def _wait(self) -> None:
        delay = self._settings.drain_delay
        logger.info("Draining: unready, and answering for %g s more", delay)
        self._loop.call_later(delay, self.stop)

    def stop(self) -> None:
        """Stop accepting now; safe in a signal handler."""
        self._lifecycle.draining = self.should_exit = True
        if not self.started:
            # uvicorn would wait for the application's startup, however long it takes.
            self._loop.call_soon_threadsafe(
                self._loop.call_later, self._settings.drain_timeout, self._give_up_startup
            )

    def _give_up_startup(self) -> None:
        if not self.started and self._serving:
            self._serving.cancel()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, let WebSockets end, then all the rest, within the drain time-out."""
        deadline = self._loop.time() + self._settings.drain_timeout
        self._lifecycle.end_by = deadline + SHUTDOWN_RESERVE
        for server in self.servers:
            server.close()
        self._lifecycle.end()
        await self._until_websockets_end(deadline)
        # Never 0: what has ended by now is to be seen as such.
        self.config.timeout_graceful_shutdown = max(deadline - self._loop.time(), 0.5)  # type: ignore[assignment] # asyncio takes fractions
        await super().shutdown(sockets)

    async def _until_websockets_end(self, deadline: float) -> None:
        websockets = self._lifecycle.websockets
        if not await self._until(lambda: not websockets, deadline):
            logger.error(
                "%d WebSocket application(s) did not end within the drain time-out; "
                "their clients see code 1012",
                len(websockets),
            )
        # A connection that is closed while its client still sends is reset, and what the client
        # has not read by then is lost: our last words. So its close frame is awaited.
        kind = self.config.ws_protocol_class or ()
        open_ = self.server_state.connections
        soon = min(deadline, self._loop.time() + _CLIENTS_TURN)
        await self._until(lambda: not any(isinstance(each, kind) for each in open_), soon)

    async def _until(self, satisfied: Callable[[], bool], deadline: float) -> bool:
        while not satisfied():
            if self.force_exit or self._loop.time() >= deadline:
                return False
            await asyncio.sleep(0.05)
        return True
