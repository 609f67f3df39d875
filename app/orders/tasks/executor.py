"""Runs one task for the library of the queue, and decides what becomes of it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from typing import Any

from pgqueuer.errors import RetryRequested
from pgqueuer.executors import AbstractEntrypointExecutor, EntrypointExecutorParameters
from pgqueuer.models import Context, Job

from orders.repositories import tasks
from orders.tasks.task import NotYetError, Resources, Task
from tidegate import Worker

log = logging.getLogger(__name__)


class DeadError(Exception):
    """A task is not tried any more. The text is stored and shown to admins."""


class Executor(AbstractEntrypointExecutor):
    """Runs tasks of one kind.

    Args:
        task: the kind.
        resources: what it works with.
        worker: the process.
        released: when this is set, what still runs goes back into the queue.
    """

    def __init__(
        self, task: Task[Any], resources: Resources, worker: Worker, released: asyncio.Event
    ) -> None:
        super().__init__(EntrypointExecutorParameters(0, self._run, on_failure="hold"))
        self._task = task
        self._resources = resources
        self._worker = worker
        self._released = released

    async def execute(self, job: Job, context: Context) -> None:
        """Run the job's task.

        Raises:
            RetryRequested: it is to be tried again.
            DeadError: it is not.
        """
        running = asyncio.ensure_future(self._run(job))
        released = asyncio.ensure_future(self._released.wait())
        try:
            await asyncio.wait({running, released}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            pass  # the library would take a task that was cancelled for done
        finally:
            released.cancel()
        if not running.done():
            running.cancel()
            await asyncio.wait({running})
        if running.cancelled():
            raise RetryRequested(reason="released by a worker that ends") from None
        running.result()

    async def _run(self, job: Job) -> None:
        dead: str | None = None
        again: RetryRequested | None = None
        attempt = job.attempts + 1
        with self._worker.task(self._task.name, _carried(job)) as running:
            try:
                async with self._resources.sessions() as session:
                    attempt = await tasks.count_starts(session, job.id)
                if not self._task.retry.may_start(attempt):
                    dead = f"its worker died each time, {attempt - 1} times"
                else:
                    await self._task.run(self._resources, self._arguments(job))
            except Exception as error:
                expected = isinstance(error, NotYetError)
                why = str(error) if expected else type(error).__name__
                if self._task.retry.may_start(attempt + 1):
                    running.outcome = "postponed" if expected else "retried"
                    again = self._again(attempt, why)
                else:
                    dead = f"{why}, at attempt {attempt}"
                if not expected:
                    log.error("attempt %d has failed", attempt, exc_info=error)
            if dead:
                running.outcome = "dead"
                await self._bury(job)
        # Without the cause: the library stores its text, which may quote anything.
        if again:
            raise again from None
        if dead:
            raise DeadError(dead) from None

    def _again(self, attempt: int, reason: str) -> RetryRequested:
        pause = self._task.retry.pause(attempt, random.random())  # noqa: S311 - spreads tasks
        return RetryRequested(pause, reason)

    async def _bury(self, job: Job) -> None:
        if self._task.bury is None:
            return
        try:
            await self._task.bury(self._resources, self._arguments(job))
        except Exception as error:
            log.error("nobody could be told that a task is dead", exc_info=error)

    def _arguments(self, job: Job) -> Any:  # noqa: ANN401 - the task's own model
        return self._task.arguments.model_validate_json(job.payload or b"{}")


def _carried(job: Job) -> Mapping[str, str]:
    return {name: each for name, each in (job.headers or {}).items() if isinstance(each, str)}
