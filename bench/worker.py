"""Calls one row's application in process, as often as it is told: ``python -m bench.worker``.

Each line on standard input is a number of calls; the answer, on the descriptor that BENCH_ANSWERS
names, is the wall-clock µs per call of each of three runs of that many calls, and the CPU seconds
and the calls so far of the whole process, every thread included.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvloop
from fastapi import FastAPI
from starlette.types import ASGIApp, Message

from bench.client import HEADERS

RUNS = 3


def scope() -> dict[str, Any]:
    """What uvicorn passes for one request of the load."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 53124),
        "scheme": "http",
        "method": "GET",
        "root_path": "",
        "path": "/api/v1/orders/42",
        "raw_path": b"/api/v1/orders/42",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()],
        "state": {},
    }


async def call(app: ASGIApp, times: int) -> float:
    """Call the application so often; return the µs per call."""
    template = scope()
    headers = template["headers"]
    body: Message = {"type": "http.request", "body": b"", "more_body": False}
    status = 0

    async def receive() -> Message:
        return body

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]

    began = time.perf_counter()
    for _ in range(times):
        await app(template | {"headers": headers.copy(), "state": {}}, receive, send)
    took = time.perf_counter() - began
    if status != 200:
        raise RuntimeError(f"the application answered {status} instead of 200")
    return took / times * 1e6


@asynccontextmanager
async def lifespan(app: ASGIApp) -> AsyncIterator[None]:
    """Start the application and stop it, as a server does."""
    received: asyncio.Queue[Message] = asyncio.Queue()
    sent: asyncio.Queue[Message] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
    running = asyncio.create_task(_run(app, scope, received, sent))
    await received.put({"type": "lifespan.startup"})
    await _expect(sent, "lifespan.startup.complete")
    try:
        yield
    finally:
        await received.put({"type": "lifespan.shutdown"})
        await _expect(sent, "lifespan.shutdown.complete")
        await running


async def _run(
    app: ASGIApp,
    scope: dict[str, Any],
    received: asyncio.Queue[Message],
    sent: asyncio.Queue[Message],
) -> None:
    await app(scope, received.get, sent.put)


async def _expect(sent: asyncio.Queue[Message], wanted: str) -> None:
    message = await asyncio.wait_for(sent.get(), 30)
    if message["type"] != wanted:
        raise RuntimeError(f"the application said {message} instead of {wanted}")


async def work(app: FastAPI, answers: int) -> None:
    """Answer every line until standard input ends."""
    loop = asyncio.get_running_loop()
    calls = 0
    async with lifespan(app):
        await call(app, 500)  # routes resolved, buffers grown, connections to the sink made
        gc.collect()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            # The processor time of the last turn includes what was exported after it.
            answer: dict[str, Any] = {"cpu": time.process_time(), "calls": calls}
            answer["runs"] = [await call(app, int(line)) for _ in range(RUNS)]
            calls += int(line) * RUNS
            os.write(answers, json.dumps(answer).encode() + b"\n")


def main() -> None:
    """Import the row's application and serve standard input."""
    from bench.served import app

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work(app, int(os.environ["BENCH_ANSWERS"])))


if __name__ == "__main__":
    main()
