"""Takes tasks from the queue and runs them, until the worker drains."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import asyncpg
from pgqueuer.core.qm import QueueManager
from pgqueuer.db import AsyncpgPoolDriver
from pgqueuer.errors import FailingListenerError
from pgqueuer.queries import Queries

from orders.core.direct import connect_arguments
from orders.core.settings import OrdersSettings
from orders.tasks.executor import Executor
from orders.tasks.housekeeping import keep_house
from orders.tasks.retry import Retry
from orders.tasks.task import Resources, Task
from tidegate import Worker

log = logging.getLogger(__name__)

_LOOK_EVERY: Final = timedelta(seconds=2)
"""Without a notification: one may be lost, and a task whose pause is over sends none."""
_RELEASE_AFTER: Final = 0.75
"""Of the drain time-out: what runs then goes back into the queue, in what is left of it."""
_RECONNECT: Final = Retry(timedelta(seconds=1), timedelta(seconds=30), attempts=None)
_AWAY: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, FailingListenerError)


async def work(
    worker: Worker, settings: OrdersSettings, resources: Resources, tasks: Sequence[Task[Any]]
) -> None:
    """Run tasks of these kinds until the drain; what cannot end in time goes back."""
    logging.getLogger("pgqueuer").setLevel(logging.WARNING)  # the rest is told here
    draining = asyncio.ensure_future(worker.wait_for_drain())
    house = asyncio.ensure_future(keep_house(resources.sessions, settings.unpaid_order_lifetime))
    loop = asyncio.get_running_loop()
    failures = 0
    try:
        while not draining.done():
            began = loop.time()
            try:
                released = asyncio.Event()
                executors = {
                    task.name: Executor(task, resources, worker, released) for task in tasks
                }
                await _run_queue(worker, settings, executors, released, draining)
            except _AWAY as error:
                lasted = timedelta(seconds=loop.time() - began)
                failures = 1 if lasted > _RECONNECT.longest else failures + 1
                pause = _RECONNECT.pause(failures, 1.0)
                log.error(
                    "the queue cannot be read (%s); trying again in %g s",
                    type(error).__name__,
                    pause.total_seconds(),
                )
                await asyncio.wait({draining}, timeout=pause.total_seconds())
    finally:
        for each in (draining, house):
            each.cancel()
        await asyncio.wait({draining, house})


async def _run_queue(
    worker: Worker,
    settings: OrdersSettings,
    executors: Mapping[str, Executor],
    released: asyncio.Event,
    draining: asyncio.Future[None],
) -> None:
    pool = await asyncpg.create_pool(
        **connect_arguments(settings),
        min_size=2,  # one listens
        max_size=4,
        timeout=settings.database_pool_timeout,
        # A connection whose other end is gone without a word must not stop the worker for ever.
        command_timeout=settings.database_command_timeout,
    )
    try:
        manager = QueueManager(Queries(AsyncpgPoolDriver(pool)))
        for name, executor in executors.items():
            manager.register_executor(name, executor)
        running = asyncio.ensure_future(_run(manager, settings))
        try:
            await asyncio.wait({running, draining}, return_when=asyncio.FIRST_COMPLETED)
            manager.shutdown.set()
            patience = worker.settings.drain_timeout * _RELEASE_AFTER
            await asyncio.wait({running}, timeout=patience)
        finally:
            # Never by cancelling the manager: to it, a task that was cancelled is done.
            manager.shutdown.set()
            released.set()
            await asyncio.wait({running})
        running.result()
    finally:
        pool.terminate()


async def _run(manager: QueueManager, settings: OrdersSettings) -> None:
    await manager.run(
        dequeue_timeout=_LOOK_EVERY,
        batch_size=settings.tasks_at_once // 2,
        max_concurrent_tasks=settings.tasks_at_once,
        shutdown_on_listener_failure=True,
        heartbeat_timeout=timedelta(seconds=settings.task_takeover_seconds),
        log_aggregation_interval=timedelta(0),
    )
