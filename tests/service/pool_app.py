"""A service whose exports hold a database connection for as long as their reader takes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from tidegate import Tidegate
from tidegate.database import asyncpg_url
from tidegate.pool import read_pool

POOL_SIZE = 3

# 100 bytes a row: far more than all buffers between here and a reader that does not read.
EXPORT = text("SELECT i, repeat('x', 90) FROM generate_series(1, 1000000) AS i")

engine = create_async_engine(
    asyncpg_url(os.environ["DATABASE_URL"]), pool_size=POOL_SIZE, max_overflow=0, pool_timeout=60
)
app = FastAPI()


@app.get("/export.csv")
async def export() -> StreamingResponse:
    """Stream a million rows through a server-side cursor."""

    async def rows() -> AsyncIterator[str]:
        async with engine.connect() as connection:
            async for part in (await connection.stream(EXPORT)).partitions(1000):
                yield "".join(f"{number},{filling}\n" for number, filling in part)

    return StreamingResponse(rows(), media_type="text/csv")


@app.get("/fast")
async def fast() -> dict[str, str]:
    """Answer without the database."""
    return {"answer": "fast"}


@app.get("/pool")
async def pool() -> dict[str, float]:
    """Tell how full the pool is."""
    state = read_pool(engine)
    assert state
    return {"size": state.size, "in_use": state.in_use, "waiting": state.waiting}


Tidegate(app, engine=engine)
