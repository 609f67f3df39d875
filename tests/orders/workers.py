"""Workers for tests: in this process with tasks of the test's own, or as processes."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from orders.tasks.runner import work
from orders.tasks.task import Resources, Task
from tests.migrate.conftest import clean_environment
from tests.orders.conftest import Live
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


@dataclass
class WorkerProcess(Served):
    """`python -m orders worker`."""

    def kill(self) -> None:
        """End it without a word, as a lost node does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    async def terminate(self) -> tuple[int, str]:
        """End it as Kubernetes does; return its exit code and what it has logged."""
        self.process.terminate()
        output, _ = await asyncio.to_thread(self.process.communicate, timeout=30)
        return self.process.returncode, output


def start_worker(**environment: str) -> WorkerProcess:
    """Start one; whoever starts it also ends it."""
    admin_port, _ = free_ports()
    settings = {
        "APP_ENV": "development",
        "APP_TASK_TAKEOVER_SECONDS": "2",
        "TIDEGATE_HOST": "127.0.0.1",
        "TIDEGATE_ADMIN_PORT": str(admin_port),
        "TIDEGATE_DRAIN_TIMEOUT": "2",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "orders", "worker"],
        env=clean_environment() | settings | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return WorkerProcess(process, f"http://127.0.0.1:{admin_port}")


def end_all(workers: Sequence[WorkerProcess]) -> None:
    """Kill what is left of a test."""
    for worker in workers:
        worker.process.kill()
        if worker.process.stdout and not worker.process.stdout.closed:
            worker.process.communicate()
