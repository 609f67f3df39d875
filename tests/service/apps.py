"""Small applications for the tests of `tidegate serve`."""

from __future__ import annotations

import asyncio
import time

from fastapi import FastAPI

from tidegate import Tidegate

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
