"""An application whose parts start late and end late, or never."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI

from tidegate import Tidegate

app = FastAPI()
Tidegate(app)


@app.get("/thread")
def stay_in_a_thread() -> str:
    """Block a thread for longer than any time-out."""
    time.sleep(60)
    return "late"


@app.get("/task")
async def stay_in_a_task() -> str:
    """Swallow every cancellation."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            continue
    return "late"


@asynccontextmanager
async def _slow(_: FastAPI) -> AsyncIterator[None]:
    await asyncio.sleep(2)
    yield


app.include_router(APIRouter(lifespan=_slow))
