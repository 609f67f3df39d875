"""Small applications for the tests of `tidegate serve`."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse

from tidegate import Tidegate
from tidegate.health import CheckFailedError

slow = FastAPI()


@slow.get("/slow")
async def answer_slowly(seconds: float) -> dict[str, str]:
    """Stay in flight for a while, leaving the event loop free."""
    await asyncio.sleep(seconds)
    return {"answer": "whole"}


@slow.get("/stuck")
async def block_the_loop(seconds: float) -> dict[str, str]:
    """Do what no handler should: block the event loop."""
    time.sleep(seconds)  # noqa: ASYNC251 - the fault under test
    return {"answer": "late"}


Tidegate(slow)
bare = FastAPI()

ending = FastAPI()


@ending.websocket("/goodbye")
async def say_goodbye(websocket: WebSocket) -> None:
    """Echo, and send a last word when told that the connection ends."""
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect as end:
        await websocket.send_text(f"goodbye, {end.code}")


@ending.websocket("/echo")
async def echo(websocket: WebSocket) -> None:
    """Echo as FastAPI's tutorial does, without a thought of the end."""
    await websocket.accept()
    while True:
        await websocket.send_text(await websocket.receive_text())


@ending.websocket("/ticker")
async def tick_until_told(websocket: WebSocket) -> None:
    """Only send; the drain is awaited beside it."""
    await websocket.accept()
    told = asyncio.create_task(at_the_end.wait_for_drain())
    while not told.done():
        await websocket.send_text("tick")
        await asyncio.wait({told}, timeout=0.05)
    await websocket.send_text("goodbye")


@ending.websocket("/deaf")
async def tick_for_ever(websocket: WebSocket) -> None:
    """Only send, and listen to nobody."""
    await websocket.accept()
    while True:
        await websocket.send_text("tick")
        await asyncio.sleep(0.05)


@ending.get("/stream")
async def stream(seconds: float) -> StreamingResponse:
    """Send a line each 50 ms."""

    async def lines() -> AsyncIterator[str]:
        for number in range(int(seconds / 0.05)):
            yield f"{number}\n"
            await asyncio.sleep(0.05)

    return StreamingResponse(lines())


@ending.get("/pid")
async def name_the_process() -> int:
    """Say which worker answers."""
    return os.getpid()


def flush_well(within: float) -> None:
    """Have something to send at the end."""
    print(f"the last span is sent within {within:g} s", flush=True)


def flush_badly(_: float) -> None:
    """Fail, with a text that nobody may read."""
    raise OSError("secret-word")


at_the_end = Tidegate(ending)
at_the_end.lifecycle.flushers |= {"spans": flush_well, "events": flush_badly}


async def pass_by_name() -> None:
    """Say which process was asked."""
    raise CheckFailedError(f"asked {os.getpid()}")


at_the_end.add_check("who", pass_by_name, blocking=False)


@asynccontextmanager
async def hang_at_the_end(_: FastAPI) -> AsyncIterator[None]:
    """Hold up the shutdown for ever."""
    yield
    await asyncio.sleep(3600)


stubborn = FastAPI(lifespan=hang_at_the_end)
Tidegate(stubborn).lifecycle.flushers |= {
    "spans": flush_well,
    "logs": lambda _: time.sleep(3600),
    "events": lambda _: False,
}


@asynccontextmanager
async def hang_at_the_start(_: FastAPI) -> AsyncIterator[None]:
    """Wait for something that never comes."""
    await asyncio.sleep(3600)
    yield


waiting = FastAPI(lifespan=hang_at_the_start)
Tidegate(waiting)


@asynccontextmanager
async def fail_at_the_start(_: FastAPI) -> AsyncIterator[None]:
    """Refuse to start."""
    raise RuntimeError("the cellar is flooded")
    yield


broken = FastAPI(lifespan=fail_at_the_start)
Tidegate(broken)
