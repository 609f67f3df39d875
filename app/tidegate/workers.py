"""Several workers: gunicorn's master keeps them alive, and each drains as a single process does.

The application is imported once, before the workers are forked from it: what cannot be served
says so once, and pages of memory are shared. What holds a connection or a thread belongs into the
application's lifespan, which runs in each worker.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import math
import os
import signal
import socket
from collections.abc import Callable, Mapping
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Final

import uvicorn
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker
from prometheus_client.multiprocess import mark_process_dead

from tidegate import logs
from tidegate.drain import SHUTDOWN_RESERVE, DrainingServer
from tidegate.lifespan import FLUSH_TIMEOUT
from tidegate.settings import Settings

if TYPE_CHECKING:
    from tidegate.core import Tidegate

logger = logging.getLogger("uvicorn.error")

_BEAT: Final = 1.0  # seconds between two signs of life to the master


def run_workers(
    config: uvicorn.Config, installed: Tidegate, listener: socket.socket, count: int
) -> int:
    """Serve with ``count`` workers until a signal; return the exit code.

    0 after a drain, 3 if the application's own startup failed in a worker.
    """
    settings = installed.settings
    options = {
        "workers": count,
        "bind": [f"fd://{listener.detach()}"],
        "worker_class": DrainingWorker,
        # More than a worker needs: a master out of patience kills what is still flushing.
        "graceful_timeout": math.ceil(
            settings.drain_delay + settings.drain_timeout + SHUTDOWN_RESERVE + FLUSH_TIMEOUT + 2
        ),
        "control_socket_disable": True,
        "logger_class": _logger_class(settings),
        "child_exit": _forget,
    }
    application = _Application(options, partial(_WorkerServer, config, installed))
    try:
        application.run()
    except SystemExit as end:  # of the master, or of a worker that was forked in there
        return end.code if isinstance(end.code, int) else 1
    except HaltServer as halt:  # while the master stopped for one failed startup came another
        return int(halt.exit_status)
    return 0


class _Application(BaseApplication):  # type: ignore[misc] # gunicorn is not typed
    def __init__(self, options: Mapping[str, object], server: ServerFactory) -> None:
        self._options = options
        self._server = server
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> ServerFactory:
        return self._server


def _logger_class(settings: Settings) -> type[Logger]:
    class OurLogger(Logger):  # type: ignore[misc]
        def setup(self, cfg: object) -> None:
            super().setup(cfg)
            logs.install(settings)  # after gunicorn's own

    return OurLogger


class DrainingWorker(Worker):  # type: ignore[misc]
    """A process that runs a :class:`DrainingServer` on the sockets it inherits."""

    wsgi: ServerFactory
    """gunicorn's name for what the application's ``load`` returned."""

    def init_signals(self) -> None:
        """Forget the master's handlers; the server brings its own once it runs."""
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # The master aborts a worker that is stuck: then it says where.
        faulthandler.enable()

    def run(self) -> None:
        """Serve until the master says stop."""
        self.wsgi(self).run(sockets=[each.sock for each in self.sockets])


class _WorkerServer(DrainingServer):
    def __init__(self, config: uvicorn.Config, installed: Tidegate, worker: Worker) -> None:
        super().__init__(config, installed)
        self._worker = worker

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        signal.signal(signal.SIGQUIT, self.handle_exit)
        beat = asyncio.create_task(self._beat())
        try:
            await super().serve(sockets)
        finally:
            beat.cancel()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # What comes from a terminal or a supervisor reaches the whole group, so a worker may get
        # it twice: SIGTERM counts once, SIGINT is for the master, which turns it into SIGQUIT.
        if sig == signal.SIGQUIT:
            self.stop()
        elif sig == signal.SIGTERM and not self._lifecycle.draining:
            self.drain()

    async def _beat(self) -> None:
        # For as long as the loop turns, startup and drain included; uvicorn's own notification
        # stops when the drain begins.
        while True:
            self._worker.notify()
            if os.getppid() != self._worker.ppid and not self._lifecycle.draining:
                logger.error("gunicorn's master is gone; this worker drains and ends")
                self.drain()
            await asyncio.sleep(_BEAT)


ServerFactory = Callable[[Worker], _WorkerServer]


def _forget(_: Arbiter, worker: Worker) -> None:
    mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
