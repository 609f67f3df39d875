"""Which gates there are, and when each is looked at.

Every gate has one task. Whatever happens to it, its Deployment or its Jobs only wakes that task;
what is true is then read from the API server. So events may come twice, late, out of order or
hundreds at a time: a status is decided from one fresh look, and never by two tasks at once.
A look that fails is tried again until it succeeds: nothing is lost while the server is away.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from tidegate_operator.conditions import find
from tidegate_operator.kube import ApiError, ConflictError
from tidegate_operator.models import Attempt, Deployment, Gate, Job
from tidegate_operator.observe import observe
from tidegate_operator.reasons import Reason, Type

__all__ = ["Gates", "Pace"]

logger = logging.getLogger("tidegate.operator")

Key = tuple[str, str]
"""Namespace and name of a gate."""


class Reads(Protocol):
    """What :class:`Gates` needs of the API server; see :class:`tidegate_operator.kube.Kube`."""

    async def gate(self, namespace: str, name: str) -> Gate | None: ...
    async def deployment(self, namespace: str, name: str) -> Deployment | None: ...
    async def newest_job(self, gate: Gate) -> Job | None: ...
    async def attempt(self, namespace: str, job: Job) -> Attempt: ...
    async def write_status(self, gate: Gate, status: dict[str, Any]) -> None: ...


@dataclass(frozen=True, slots=True)
class Pace:
    """How long to wait, in seconds."""

    gather: float = 0.1
    """After an event, for the ones that come with it."""
    migrating: float = 10.0
    """Until the next look while a migration is on its way: pods are not watched, and one that
    cannot start changes nothing on its Job."""
    rest: float = 900.0
    """Until the next look when nothing happens: in case that an event was lost."""
    first_retry: float = 1.0
    longest_retry: float = 30.0
    stuck: float = 120.0
    """How long one look may take before the operator is called dead."""


class Gates:
    """All SchemaGates that the operator serves."""

    def __init__(
        self,
        kube: Reads,
        pace: Pace | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        at_once: int = 8,
    ) -> None:
        self._kube = kube
        self._pace = pace or Pace()
        self._now = now
        self._turns = asyncio.Semaphore(at_once)
        self._deployments: dict[Key, str] = {}
        self._wakers: dict[Key, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._looking_since: dict[Key, float] = {}

    # What the handlers call.

    def gate_changed(self, namespace: str, name: str, deployment_name: str) -> None:
        """Look at a gate that came, went or changed.

        Which of these it was is not asked: the event of a deleted gate may come after that of the
        gate made anew under its name.
        """
        self._deployments[namespace, name] = deployment_name
        self._wake((namespace, name))

    def deployment_changed(self, namespace: str, name: str) -> None:
        for key, deployment_name in self._deployments.items():
            if key[0] == namespace and deployment_name == name:
                self._wake(key)

    def job_changed(self, namespace: str, gate_name: str) -> None:
        # A Job may be heard of before its gate. The gate's own event then looks at both.
        if (namespace, gate_name) in self._deployments:
            self._wake((namespace, gate_name))

    async def close(self) -> None:
        """Stop looking. A status that is half decided is not written: the next start decides."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # What the liveness probe asks.

    def stuck(self) -> str | None:
        """Say which gate has been looked at for too long; ``None`` when all is well."""
        now = time.monotonic()
        for (namespace, name), since in self._looking_since.items():
            if now - since > self._pace.stuck:
                return f"SchemaGate {namespace}/{name} has been looked at for {now - since:.0f} s"
        return None

    # What happens then.

    def _wake(self, key: Key) -> None:
        if key in self._wakers:
            self._wakers[key].set()
            return
        self._wakers[key] = waker = asyncio.Event()
        task = asyncio.create_task(self._keep(key, waker), name=f"gate {'/'.join(key)}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep(self, key: Key, waker: asyncio.Event) -> None:
        """Look at the gate whenever it is woken, and now and then, for as long as it exists."""
        retry = self._pace.first_retry
        while True:
            await asyncio.sleep(self._pace.gather)
            waker.clear()
            try:
                async with self._turns:
                    self._looking_since[key] = time.monotonic()
                    pause = await self._look(*key)
                retry = self._pace.first_retry
            except ConflictError:
                continue
            except Exception as error:
                level = logging.WARNING if isinstance(error, ApiError) else logging.ERROR
                logger.log(
                    level,
                    "SchemaGate %s/%s: its status could not be brought up to date; "
                    "next try in %.0f s. %s",
                    *key,
                    retry,
                    error,
                    exc_info=not isinstance(error, ApiError),
                )
                pause, retry = retry, min(retry * 2, self._pace.longest_retry)
            finally:
                self._looking_since.pop(key, None)
            if pause is None and not waker.is_set():
                # Gone. Nothing of it is left anywhere: there is no finalizer.
                del self._wakers[key], self._deployments[key]
                return
            try:
                async with asyncio.timeout(pause):
                    await waker.wait()
            except TimeoutError:
                pass

    async def _look(self, namespace: str, name: str) -> float | None:
        """Bring the gate's status up to date.

        Returns:
            when to look again, or ``None`` when the gate is gone.
        """
        gate = await self._kube.gate(namespace, name)
        if gate is None:
            return None
        self._deployments[namespace, name] = gate.deployment_name
        job = await self._kube.newest_job(gate)
        attempt = Attempt() if job is None else await self._kube.attempt(namespace, job)
        deployment = await self._kube.deployment(namespace, gate.deployment_name)
        status = observe(gate, deployment, job, attempt, self._now())
        if status != gate.status:
            await self._kube.write_status(gate, status)
            _log(gate, status)
        migrated = find(status["conditions"], Type.MIGRATED) or {}
        if migrated.get("reason") == Reason.MIGRATING:
            return self._pace.migrating
        return self._pace.rest * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, no secret


def _log(gate: Gate, status: dict[str, Any]) -> None:
    """Log the change of Ready, once, in words; everything else is on the gate."""
    was = find(gate.status.get("conditions", ()), Type.READY) or {}
    is_ = find(status["conditions"], Type.READY) or {}
    if (was.get("status"), was.get("reason")) != (is_["status"], is_["reason"]):
        fine = is_["status"] == "True" or is_["reason"] in (Reason.MIGRATING, Reason.ROLLING_OUT)
        logger.log(
            logging.INFO if fine else logging.WARNING,
            "SchemaGate %s/%s: Ready is %s (%s): %s",
            gate.namespace,
            gate.name,
            is_["status"],
            is_["reason"],
            is_["message"],
        )
