"""``run_worker``: a process that serves no HTTP, with all else that `tidegate serve` gives one.

Logs, traces, errors, health and metrics on the admin port, the schema verdict, the heartbeat and
the drain are those of :class:`~tidegate.core.Tidegate`, on an application that nobody asks.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Final

from fastapi import FastAPI
from prometheus_client import Counter, Histogram

from tidegate.carrying import carried_on
from tidegate.core import Tidegate
from tidegate.drain import SHUTDOWN_RESERVE
from tidegate.health import Check
from tidegate.otel_environment import read_propagators
from tidegate.settings import Settings, SettingsError, misspelt_variables

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

logger = logging.getLogger("tidegate.worker")

_FAILED: Final = 1
_AGAIN: Final = 1.0  # seconds until the checks are asked again before the work begins
_DURATIONS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

_TASKS: Final = Counter(
    "tidegate_tasks", "Tasks that a worker has run, by how they ended.", ("task", "outcome")
)
_DURATION: Final = Histogram(
    "tidegate_task_duration_seconds", "How long tasks ran.", ("task",), buckets=_DURATIONS
)


class Task:
    """One task that runs; what it says of its end is in logs and metrics."""

    outcome: str = "succeeded"
    """A word of a small set, for the label of a metric; ``failed`` if the block raises."""


class Worker:
    """What the work of :func:`run_worker` is given."""

    def __init__(self, installed: Tidegate) -> None:
        self._installed = installed
        self.settings = installed.settings

    def add_check(self, name: str, check: Check, *, blocking: bool = True) -> None:
        """Let readiness depend on ``check``, as :meth:`Tidegate.add_check` does."""
        self._installed.add_check(name, check, blocking=blocking)

    async def wait_for_drain(self) -> None:
        """Wait for SIGTERM: from then on take nothing new, and end what runs or give it back.

        After ``TIDEGATE_DRAIN_TIMEOUT`` seconds the work is cancelled.
        """
        await self._installed.wait_for_drain()

    @contextmanager
    def task(self, name: str, carried: Mapping[str, str]) -> Iterator[Task]:
        """Give the block a span, the ids of the request that caused it, metrics and a log line.

        What it raises goes to the log and to Sentry, and on to the caller.

        Args:
            name: of a small set: it is a label of metrics.
            carried: what :func:`tidegate.carry` returned where the task was ordered.
        """
        task = Task()
        started = perf_counter()
        with carried_on(name, carried) as request:
            try:
                yield task
            except Exception as error:
                task.outcome = "failed"
                logger.error("Unhandled exception in task %s", name, exc_info=error)
                if self._installed._sentry:
                    self._installed._sentry.capture(error, request, name)
                raise
            finally:
                seconds = perf_counter() - started
                _TASKS.labels(name, task.outcome).inc()
                _DURATION.labels(name).observe(seconds)
                said = {"task": name, "outcome": task.outcome, "duration_ms": round(1000 * seconds)}
                logger.info("%s %s", name, task.outcome, extra=said)


Work = Callable[[Worker], Awaitable[None]]


def run_worker(
    work: Work,
    *,
    name: str,
    engine: AsyncEngine | None = None,
    settings: Settings | None = None,
) -> int:
    """Run ``work`` until it returns, and return the exit code.

    It begins once every blocking health check has passed, on a schema that this image may work
    on. SIGTERM begins the drain, see :meth:`Worker.wait_for_drain`; a second one ends it.

    Args:
        work: an async function.
        name: of the process, for ``tidegate_build_info``.
        engine: its database, as for :class:`Tidegate`.
        settings: defaults to the environment's.

    Returns:
        0: it ended, by itself or by SIGTERM; 1: it raised; 2: the settings are not usable.
    """
    try:
        read_propagators()
        app = FastAPI(title=name, openapi_url=None)
        installed = Tidegate(app, engine=engine, settings=settings)
        host, port, *_ = installed.admin.bind().getsockname()
    except SettingsError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    for message in misspelt_variables(os.environ):
        logger.warning("%s", message)
    logger.info("Health and metrics on http://%s:%d", f"[{host}]" if ":" in host else host, port)
    return asyncio.run(_run(app, installed, work))


async def _run(app: FastAPI, installed: Tidegate, work: Work) -> int:
    loop = asyncio.get_running_loop()
    lifecycle = installed.lifecycle
    lifecycle.drains = True
    working: asyncio.Task[None] | None = None

    def drain() -> None:
        if not lifecycle.ending.is_set():
            timeout = installed.settings.drain_timeout
            logger.info("Draining: taking nothing new, and ending within %d s", timeout)
            lifecycle.end_by = loop.time() + timeout + SHUTDOWN_RESERVE
            lifecycle.end()
            loop.call_later(timeout, lambda: working and working.cancel())
        elif working:
            working.cancel()

    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, drain)
    async with app.router.lifespan_context(app):
        lifecycle.started = True
        working = asyncio.create_task(_work(installed, work))
        await asyncio.wait({working})
    if working.cancelled():
        logger.error("the work did not end within the drain time-out, and was cut off")
    elif error := working.exception():
        logger.critical("the work has failed, and the process ends", exc_info=error)
        return _FAILED
    return 0


async def _work(installed: Tidegate, work: Work) -> None:
    while not (await installed._checks.judge()).may_serve:
        try:
            async with asyncio.timeout(_AGAIN):
                await installed.wait_for_drain()
                return
        except TimeoutError:
            continue
    installed.lifecycle.was_ready = True
    await work(Worker(installed))
