"""Start and end of a process, where an application makes both difficult."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message

from tests.service.conftest import Serve
from tidegate import CheckFailedError, Tidegate
from tidegate.health import Checks
from tidegate.settings import Settings

APP = "tests.service.lingering_app:app"


def test_a_router_that_was_included_later_keeps_the_pod_starting_until_it_has_started(
    serve: Serve,
) -> None:
    service = serve(APP)
    starting = service.until(lambda answer: answer.status_code == 503)
    assert starting.json()["status"] == "starting"
    service.until_ready()
    assert httpx.get(f"{service.url}/nothing").status_code == 404


@pytest.mark.parametrize("path", ["/thread", "/task"])
async def test_what_never_ends_does_not_keep_the_process_beyond_its_grace_period(
    serve: Serve, path: str
) -> None:
    service = serve(APP, TIDEGATE_DRAIN_DELAY="0", TIDEGATE_DRAIN_TIMEOUT="1")
    await asyncio.to_thread(service.until_ready)
    async with httpx.AsyncClient() as client:
        asked = asyncio.create_task(client.get(service.url + path, timeout=60))
        await asyncio.sleep(0.5)
        began = time.monotonic()
        service.process.terminate()
        log = await asyncio.to_thread(service.stop)
        await asyncio.gather(asked, return_exceptions=True)

    assert time.monotonic() - began < 11  # drain delay + time-out + 10, as the chart has it
    assert service.process.returncode == 0
    assert "leaving it behind" in log


async def test_an_application_may_be_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_LOG_FORMAT", "off")
    app = FastAPI()

    @app.get("/")
    async def answer() -> str:
        return "yes"

    tidegate = Tidegate(app, settings=Settings(admin_port=0, host="127.0.0.1"))
    transport = httpx.ASGITransport(app)
    for _ in range(2):
        async with started(app), httpx.AsyncClient(transport=transport) as client:
            assert (await client.get("http://app/")).headers.get("connection") != "close"
            assert not tidegate.lifecycle.ending.is_set()
        assert tidegate.lifecycle.ending.is_set()


@asynccontextmanager
async def started(app: FastAPI) -> AsyncIterator[None]:
    """Run an application's lifespan as a server does."""
    said: asyncio.Queue[Message] = asyncio.Queue()
    heard: asyncio.Queue[Message] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    running = asyncio.create_task(app(scope, heard.get, said.put))
    await heard.put({"type": "lifespan.startup"})
    assert (await said.get())["type"] == "lifespan.startup.complete"
    yield
    await heard.put({"type": "lifespan.shutdown"})
    assert (await said.get())["type"] == "lifespan.shutdown.complete"
    await running


def test_an_application_has_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_LOG_FORMAT", "off")
    app = FastAPI()
    Tidegate(app)
    with pytest.raises(RuntimeError, match="called before"):
        Tidegate(app)


@pytest.mark.parametrize("text", ["caf\udce9", "x" * 10_000_000])
async def test_the_text_of_one_check_does_not_hide_the_others(text: str) -> None:
    async def failing() -> None:
        raise CheckFailedError(text)

    async def passing() -> None:
        return None

    checks = Checks(timeout=5, cache=0)
    checks.add("failing", failing)
    checks.add("passing", passing)
    health = await checks.judge()

    reason = health.outcomes["failing"].reason
    assert reason
    assert len(reason) <= 1000
    assert reason.encode()
    assert health.outcomes["passing"].status == "ok"
