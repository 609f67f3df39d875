"""``tidegate serve MODULE:APP``: uvicorn, with a drain that loses no request.

On SIGTERM Kubernetes takes the pod out of its endpoints, but it takes seconds until every
node knows. uvicorn alone stops accepting at once; this server stays open for the drain delay,
unready and answering with ``Connection: close``, and only then lets uvicorn stop.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI
from uvicorn.importer import ImportFromStringError, import_from_string

from tidegate.core import Tidegate
from tidegate.ports import bind
from tidegate.settings import SettingsError

logger = logging.getLogger("uvicorn.error")


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until a signal; return the exit code (2: nothing could be served)."""
    parser = argparse.ArgumentParser(
        prog="tidegate serve", description="Serve a FastAPI application that uses Tidegate(app)."
    )
    parser.add_argument("app", metavar="MODULE:APP", help="for example orders.main:app")
    arguments = parser.parse_args(argv)
    sys.path.insert(0, str(Path.cwd()))  # as uvicorn does: an app beside us needs no install
    try:
        app, installed = _find(arguments.app)
        settings = installed.settings
        listener = bind(settings.host, settings.port, "PORT")
        installed.admin.bind()
    except (ImportFromStringError, NoAppError, SettingsError) as error:
        print(f"tidegate serve: {error}", file=sys.stderr)
        return 2
    server = DrainingServer(
        uvicorn.Config(
            app,
            access_log=False,
            timeout_graceful_shutdown=settings.drain_timeout,
            server_header=False,
        ),
        installed,
    )
    logger.info(
        "Serving http://%s:%d, health and metrics on port %d",
        settings.host,
        settings.port,
        settings.admin_port,
    )
    server.run(sockets=[listener])
    return 0 if server.started else 3


class NoAppError(Exception):
    """MODULE:APP names something that cannot be served."""


class DrainingServer(uvicorn.Server):
    """Waits for the drain delay between SIGTERM and the stop, and exits 0 afterwards."""

    def __init__(self, config: uvicorn.Config, installed: Tidegate) -> None:
        super().__init__(config)
        self._installed = installed

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve, remembering the loop that a signal handler must wake."""
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain on the first SIGTERM; stop at once on Ctrl-C or a second signal."""
        # uvicorn's own handler would raise the signal again when all is done: exit code 143.
        if sig == signal.SIGTERM and not self._installed.lifecycle.draining:
            self._installed.lifecycle.draining = True
            self._loop.call_soon_threadsafe(
                self._loop.call_later, self._installed.settings.drain_delay, self._stop
            )
        elif self.should_exit:
            self.force_exit = True
        else:
            self._installed.lifecycle.draining = True
            self._stop()

    def _stop(self) -> None:
        self.should_exit = True


def _find(target: str) -> tuple[FastAPI, Tidegate]:
    app = import_from_string(target)
    installed = getattr(getattr(app, "state", None), "tidegate", None)
    if not isinstance(app, FastAPI) or not isinstance(installed, Tidegate):
        raise NoAppError(f"{target} is no FastAPI application with Tidegate(app) installed")
    return app, installed
