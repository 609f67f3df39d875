"""When a gate is looked at, and what happens if that fails. The API server is played."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.operator.golden import NOW
from tidegate_operator.gates import Gates, Pace
from tidegate_operator.kube import ApiError, ConflictError
from tidegate_operator.models import Attempt, Deployment, Gate, Job

FAST = Pace(gather=0.001, migrating=0.02, rest=60, first_retry=0.01, longest_retry=0.02, stuck=0.05)
RELEASED = Deployment("orders", observed_generation=1, total=1, updated=1, available=1)


class Server:
    """An API server's memory, and what goes wrong on the way to it."""

    def __init__(self) -> None:
        self.gates = {"orders": Gate("shop", "orders", "orders")}
        self.found: Deployment | None = RELEASED
        self.job: Job | None = None
        self.troubles: list[Exception] = []
        self.before_write: Callable[[], None] = lambda: None
        self.looks: list[str] = []
        self.writes: list[dict[str, Any]] = []
        self.at_once = self.most_at_once = 0

    async def gate(self, namespace: str, name: str) -> Gate | None:
        self.looks.append(name)
        if self.troubles:
            raise self.troubles.pop(0)
        return self.gates.get(name)

    async def deployment(self, namespace: str, name: str) -> Deployment | None:
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        await asyncio.sleep(0.005)
        self.at_once -= 1
        return self.found

    async def newest_job(self, gate: Gate) -> Job | None:
        return self.job

    async def attempt(self, namespace: str, job: Job) -> Attempt:
        return Attempt()

    async def write_status(self, gate: Gate, status: dict[str, Any]) -> None:
        self.before_write()
        if gate.name not in self.gates:
            return  # as a PATCH of what is gone
        if gate != self.gates[gate.name]:
            raise ConflictError("changed in the meantime")
        self.gates[gate.name] = replace(gate, status=status)
        self.writes.append(status)


async def settle(server: Server, gates: Gates, looks: int) -> None:
    async with asyncio.timeout(5):
        while len(server.looks) < looks:  # noqa: ASYNC110 - the played server knows no event
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.03)


def of(server: Server, pace: Pace = FAST) -> Gates:
    # Each status is decided a second later than the one before.
    clock = iter(NOW + timedelta(seconds=second) for second in range(1000))
    return Gates(server, pace, lambda: next(clock))


async def test_a_hundred_events_at_once_lead_to_one_look_after_another() -> None:
    server = Server()
    gates = of(server)
    gates.gate_changed("shop", "orders", "orders")
    for _ in range(100):
        gates.deployment_changed("shop", "orders")
        gates.job_changed("shop", "orders")
        await asyncio.sleep(0.0005)
    await settle(server, gates, 1)
    assert server.most_at_once == 1
    assert 1 < len(server.looks) < 50
    assert len(server.writes) == 1
    await gates.close()


async def test_an_event_during_a_look_leads_to_another_one() -> None:
    server = Server()
    gates = of(server)

    def meanwhile() -> None:
        server.before_write = lambda: None
        server.found = None
        gates.deployment_changed("shop", "orders")

    server.before_write = meanwhile
    gates.gate_changed("shop", "orders", "orders")
    await settle(server, gates, 2)
    rolled_out = server.writes[-1]["conditions"][2]
    assert rolled_out["reason"] == "DeploymentNotFound"
    await gates.close()


async def test_a_gate_changed_between_read_and_write_is_read_again() -> None:
    server = Server()
    gates = of(server)

    def meanwhile() -> None:
        server.before_write = lambda: None
        server.gates["orders"] = Gate("shop", "orders", "elsewhere", generation=2)

    server.before_write = meanwhile
    gates.gate_changed("shop", "orders", "orders")
    await settle(server, gates, 2)
    assert [status["observedGeneration"] for status in server.writes] == [2]
    await gates.close()


async def test_a_gate_deleted_between_read_and_write_is_forgotten() -> None:
    server = Server()
    gates = of(server)

    def meanwhile() -> None:
        server.gates.clear()
        gates.gate_changed("shop", "orders", "orders")  # the event of its deletion

    server.before_write = meanwhile
    gates.gate_changed("shop", "orders", "orders")
    await settle(server, gates, 2)
    looks = len(server.looks)
    gates.deployment_changed("shop", "orders")
    await asyncio.sleep(0.03)
    assert len(server.looks) == looks
    assert not server.writes
    await gates.close()


async def test_a_late_event_of_a_deleted_gate_does_not_hide_the_one_made_anew() -> None:
    server = Server()
    server.gates["orders"] = Gate("shop", "orders", "renamed")
    gates = of(server)
    gates.gate_changed("shop", "orders", "renamed")
    await settle(server, gates, 1)
    gates.gate_changed("shop", "orders", "orders")  # the deletion of the one before
    await settle(server, gates, 2)
    server.looks.clear()
    gates.deployment_changed("shop", "renamed")
    await settle(server, gates, 1)
    assert server.looks == ["orders"]
    await gates.close()


@pytest.mark.parametrize("trouble", [ApiError("the API server does not answer"), KeyError("spec")])
async def test_a_look_that_fails_is_told_and_tried_again_until_it_succeeds(
    trouble: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server()
    server.troubles = [trouble] * 3
    gates = of(server)
    with caplog.at_level(logging.WARNING):
        gates.gate_changed("shop", "orders", "orders")
        await settle(server, gates, 4)
    assert len(server.writes) == 1
    tries = [record for record in caplog.records if "next try" in record.message]
    assert len(tries) == 3
    # A fault of ours comes with its traceback, a server's without.
    assert bool(tries[0].exc_info) is not isinstance(trouble, ApiError)
    await gates.close()


async def test_a_running_migration_is_looked_at_again_without_an_event() -> None:
    server = Server()
    server.job = Job("orders-migrate")
    gates = of(server)
    gates.gate_changed("shop", "orders", "orders")
    await settle(server, gates, 3)
    assert len(server.writes) == 1
    await gates.close()


async def test_only_the_gates_of_a_deployment_hear_of_it() -> None:
    server = Server()
    server.gates["billing"] = Gate("shop", "billing", "billing")
    gates = of(server)
    gates.gate_changed("shop", "orders", "orders")
    gates.gate_changed("shop", "billing", "billing")
    await settle(server, gates, 2)
    server.looks.clear()
    gates.deployment_changed("shop", "orders")
    gates.deployment_changed("market", "billing")
    gates.job_changed("market", "billing")
    await settle(server, gates, 1)
    assert server.looks == ["orders"]
    await gates.close()


async def test_a_look_that_hangs_is_told_to_the_liveness_probe() -> None:
    server = Server()
    for_ever = asyncio.Event()

    async def hang(gate: Gate) -> Job | None:
        await for_ever.wait()
        return None

    server.newest_job = hang  # type: ignore[method-assign]
    gates = of(server)
    gates.gate_changed("shop", "orders", "orders")
    await asyncio.sleep(0.02)
    assert gates.stuck() is None
    await asyncio.sleep(0.06)
    assert "shop/orders" in str(gates.stuck())
    for_ever.set()
    await settle(server, gates, 1)
    assert gates.stuck() is None
    await gates.close()
