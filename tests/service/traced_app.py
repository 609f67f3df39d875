"""An application whose spans the tests look at."""

from __future__ import annotations

import logging
import os

import httpx
import structlog
from fastapi import FastAPI, WebSocket
from opentelemetry import trace
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.types import Receive, Send

from tidegate import Tidegate, bind_user, hand_over
from tidegate.database import asyncpg_url

app = FastAPI()
url = os.environ.get("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
engine = create_async_engine(asyncpg_url(url))


@app.get("/items/{item_id}")
async def read_item(item_id: int) -> dict[str, int]:
    """Touch the current span as applications do."""
    span = trace.get_current_span()
    span.set_attribute("item.id", item_id)
    span.add_event("looked", {"found": True})
    bind_user(f"user-{item_id}")
    structlog.get_logger("app").info("read", item=item_id)
    return {"id": item_id}


@app.get("/sql/{number}")
async def ask_the_database(number: int) -> int:
    """One statement below the request's span."""
    async with engine.connect() as connection:
        found = await connection.execute(
            text("SELECT CAST(:number AS integer)"), {"number": number}
        )
        return int(found.scalar_one())


@app.get("/call")
async def call_another(url: str) -> int:
    """A request of our own below the request's span."""
    async with httpx.AsyncClient() as client:
        HTTPXClientInstrumentor.instrument_client(client)
        return (await client.get(url)).status_code


@app.get("/broken/{secret}")
async def fail(secret: str) -> None:
    """Raise with what the client sent."""
    logging.getLogger("app").warning("about to fail")
    raise ValueError(f"cannot do anything with {secret}")


@app.websocket("/echo/{room}")
async def echo(websocket: WebSocket, room: str) -> None:
    """Send back what comes, until the client goes."""
    await websocket.accept()
    async for message in websocket.iter_text():
        await websocket.send_text(message)


@app.websocket("/handed-over/{room}")
async def let_go(websocket: WebSocket, room: str) -> None:
    """Do the same with nothing around it."""
    await websocket.accept()
    hand_over(websocket.scope, send_back)


async def send_back(receive: Receive, send: Send) -> None:
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


Tidegate(app, engine=engine if "DATABASE_URL" in os.environ else None)
