"""Workers for tests: in this process with tasks of the test's own, or as processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from orders.tasks.runner import work
from orders.tasks.task import Resources, Task
from tests.migrate.conftest import clean_environment
from tests.orders.conftest import Live
from tests.orders.forked import Forked
from tests.orders.processes import Served
from tests.ports import free_ports
from tidegate import Worker


@asynccontextmanager
async def working(live: Live, *tasks: Task[Any]) -> AsyncIterator[asyncio.Task[None]]:
    """Run these tasks while the block runs; then drain."""
    installed = live.app.state.tidegate
    running = asyncio.create_task(
        work(
            Worker(installed),
            live.app.state.settings,
            Resources(live.sessions, live.app.state.payments),
            tasks,
        )
    )
    try:
        yield running
    finally:
        installed.lifecycle.end()
        await asyncio.wait({running})
        if not running.cancelled():
            running.result()


def start_worker(**environment: str) -> Served:
    """Start `python -m orders worker`; whoever starts it also ends it."""
    admin_port, _ = free_ports()
    settings = {
        "APP_ENV": "development",
        "APP_TASK_TAKEOVER_SECONDS": "2",
        "TIDEGATE_HOST": "127.0.0.1",
        "TIDEGATE_ADMIN_PORT": str(admin_port),
        "TIDEGATE_DRAIN_TIMEOUT": "2",
    }
    process = Forked(["orders", "worker"], clean_environment() | settings | environment)
    return Served(process, f"http://127.0.0.1:{admin_port}")
