"""An application, and one mounted in it, with an engine each and two that they instrument."""

from __future__ import annotations

import os

from fastapi import FastAPI
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from sqlalchemy import text
from sqlalchemy.ext import asyncio as sqlalchemy_asyncio
from sqlalchemy.ext.asyncio import create_async_engine

from tidegate import Tidegate
from tidegate.database import asyncpg_url

url = asyncpg_url(os.environ["DATABASE_URL"])
first, second, own = (create_async_engine(url) for _ in range(3))
app = FastAPI()
Tidegate(app, engine=first)
Tidegate(FastAPI(), engine=second)
SQLAlchemyInstrumentor().instrument(engine=own.sync_engine, skip_dep_check=True)
later = sqlalchemy_asyncio.create_async_engine(url)  # which the application's call has wrapped
Tidegate(FastAPI(), engine=later)


@app.get("/")
async def ask_all() -> None:
    """One statement of each."""
    for engine, name in ((first, "first"), (second, "second"), (own, "its own"), (later, "later")):
        async with engine.connect() as connection:
            await connection.execute(text(f"SELECT '{name}'"))
