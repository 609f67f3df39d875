"""The admin port's thread: it comes back, and it never takes the service with it."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from tidegate.admin import Admin
from tidegate.health import CheckFailedError, Checks
from tidegate.lifecycle import Lifecycle
from tidegate.settings import Settings


@asynccontextmanager
async def running(admin: Admin) -> AsyncIterator[httpx.AsyncClient]:
    port = admin.bind().getsockname()[1]
    admin.start(asyncio.get_running_loop())
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
        yield client
    await asyncio.to_thread(admin.stop)


def until(satisfied: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not satisfied():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def make(checks: Checks, *, port: int = 0) -> Admin:
    return Admin(Settings(host="127.0.0.1", admin_port=port), Lifecycle(started=True), checks)


async def test_a_server_that_ends_by_itself_is_started_again_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    admin = make(Checks(timeout=1, cache=0))
    async with running(admin) as client:
        assert (await client.get("/health/live")).status_code == 200
        ended = admin._server
        assert ended
        ended.should_exit = True  # as if it had
        await asyncio.to_thread(until, lambda: admin._server is not ended)
        assert (await client.get("/health/live")).status_code == 200
    assert _ours(caplog) == ["health and metrics are not served, trying again: it ended by itself"]


async def test_without_tidegate_serve_a_taken_port_is_named_once_and_had_as_soon_as_it_is_free(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        admin = make(Checks(timeout=1, cache=0), port=port)
        admin.start(asyncio.get_running_loop())
        await asyncio.to_thread(until, lambda: bool(_ours(caplog)))
    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(retries=8)) as client:
        answer = await client.get(f"http://127.0.0.1:{port}/health/ready", timeout=10)
    assert answer.json() == {"status": "ok", "checks": {}}
    await asyncio.to_thread(admin.stop)
    (message,) = _ours(caplog)
    assert f"port {port} cannot be opened (Address already in use)" in message
    assert "set TIDEGATE_ADMIN_PORT to another one" in message
    assert "`tidegate serve --workers`" in message


async def test_a_check_that_may_fail_degrades_and_one_that_may_not_makes_unready() -> None:
    async def fails() -> None:
        raise CheckFailedError("flooded")

    checks = Checks(timeout=1, cache=0)
    checks.add("cache", fails, blocking=False)
    async with running(make(checks)) as client:
        answer = await client.get("/health/ready")
        assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
        cache = answer.json()["checks"]["cache"]
        assert (cache["status"], cache["reason"]) == ("degraded", "flooded")
        assert 'tidegate_health_check{check="cache"} 0.0' in (await client.get("/metrics")).text
        checks.add("database", fails)
        answer = await client.get("/health/ready")
        assert (answer.status_code, answer.json()["status"]) == (503, "unready")
        assert answer.json()["checks"]["database"]["status"] == "failed"


async def test_a_probe_that_was_asking_when_sigterm_came_hears_that_it_drains() -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def waits() -> None:
        asked.set()
        await answer.wait()

    checks = Checks(timeout=5, cache=60)
    checks.add("slow", waits)
    admin = make(checks)
    async with running(admin) as client:
        probe = asyncio.create_task(client.get("/health/ready"))
        await asked.wait()
        admin._lifecycle.draining = True
        answer.set()
        assert (await probe).json() == {"status": "draining", "checks": {}}
        # And none of it was cached for others, nor are the checks asked for it.
        assert (await client.get("/health/ready")).json()["status"] == "draining"


async def test_a_check_that_blocks_the_loop_is_a_stuck_loop_to_who_asks() -> None:
    async def blocks() -> None:
        time.sleep(2.5)  # noqa: ASYNC251 - the fault under test

    checks = Checks(timeout=0.1, cache=0)
    checks.add("blocks", blocks)
    admin = make(checks)
    async with running(admin) as client:
        url = client.base_url
        answer = await asyncio.to_thread(httpx.get, f"{url}/health/ready", timeout=10)
        assert answer.status_code == 503
        assert answer.json()["checks"]["event-loop"]["reason"] == "the event loop is stuck"


def _ours(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the library said, without the HTTP client of the test."""
    return [each.getMessage() for each in caplog.records if each.name.startswith("tidegate")]
