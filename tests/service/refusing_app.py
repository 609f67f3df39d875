"""An application that refuses, binds and hangs."""

from __future__ import annotations

import asyncio

import structlog
from fastapi import FastAPI, WebSocket
from fastapi.responses import PlainTextResponse
from prometheus_fastapi_instrumentator import metrics

from tidegate import Tidegate

app = FastAPI()


@app.websocket("/denied")
async def deny(websocket: WebSocket) -> None:
    """Answer the handshake with a response of our own."""
    await websocket.send_denial_response(PlainTextResponse("who are you?", 401))


@app.websocket("/closed")
async def close(websocket: WebSocket) -> None:
    """Close before accepting."""
    await websocket.close(4403)


@app.get("/bind/{who}")
async def bind(who: str) -> str:
    """Bind a name to the context, as structlog's users do."""
    structlog.contextvars.bind_contextvars(who=who)
    structlog.get_logger("app").info("bound")
    return who


@app.get("/bind/")
async def log_only() -> str:
    """Say what is bound."""
    structlog.get_logger("app").info("not bound")
    return ""


@app.get("/never")
async def never() -> None:
    """Hang for longer than any time-out."""
    await asyncio.sleep(3600)


Tidegate(app).add_instrumentation(metrics.latency())
