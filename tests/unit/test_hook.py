"""What the hook makes ahead of its requests belongs to one process."""

from __future__ import annotations

import asyncio
import os

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.types import Message, Receive, Scope, Send

from tidegate.hook import Hook
from tidegate.ledger import Ledger
from tidegate.lifecycle import Lifecycle
from tidegate.metrics import SummedHttpMetrics
from tidegate.routes import RouteTemplates


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def ask(hook: Hook) -> bytes:
    """Return the id that the answer has."""
    told: dict[bytes, bytes] = {}

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        told.update(message.get("headers", ()))

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    asyncio.run(_call(hook, scope, receive, send))
    return told[b"x-request-id"]


async def _call(hook: Hook, scope: Scope, receive: Receive, send: Send) -> None:
    await hook(scope, receive, send)


def test_a_fork_makes_ids_of_its_own_and_leaves_what_waits_to_its_parent() -> None:
    registry = CollectorRegistry()
    hook = Hook(
        answer,
        routes=RouteTemplates(Starlette()),
        lifecycle=Lifecycle(),
        ledger=Ledger(SummedHttpMetrics(registry)),
    )
    ask(hook)  # after which more are ready
    reading, writing = os.pipe()
    if not (child := os.fork()):
        os.write(writing, ask(hook))
        os._exit(int(_total(registry)))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 1, "the child counts its own request alone"
    assert os.read(reading, 100) != ask(hook)
    assert _total(registry) == 2
    os.close(reading)
    os.close(writing)


def _total(registry: CollectorRegistry) -> float:
    labels = {"method": "GET", "status": "4xx", "handler": "none"}
    return registry.get_sample_value("http_requests_total", labels) or 0.0
