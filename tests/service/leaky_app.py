"""An application that handles secrets as carelessly as applications do, with all hooks on."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import structlog
from fastapi import BackgroundTasks, FastAPI, Request, WebSocket
from opentelemetry import trace
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from tidegate import Tidegate
from tidegate.database import asyncpg_url

app = FastAPI()
url = os.environ.get("DATABASE_URL", "")
engine = create_async_engine(asyncpg_url(url)) if url else None
log = logging.getLogger("app")


class Login(BaseModel):
    """What a client sends; ``age`` makes a sound password part of an invalid body."""

    name: str
    password: str
    age: int = 0


@app.post("/login")
async def log_in(login: Login, request: Request) -> None:
    """Tell everybody, and fail."""
    password = login.password
    log.info("login", extra={"headers": dict(request.headers), "url": str(request.url)})
    structlog.get_logger("app").info("login", login=login.model_dump(), cookies=request.cookies)
    log.error("cannot open %s for %s", url, request.url)
    span = trace.get_current_span()
    span.set_attributes({"db.url": url, "user.password": password, "http.url": str(request.url)})
    span.add_event("login", {"http.request.header.authorization": request.headers["authorization"]})
    raise PermissionError(f"{login.name} may not log in with {password}")


@app.post("/handled")
async def handle(login: Login) -> str:
    """Fail, tell it, and answer."""
    try:
        raise PermissionError(f"{login.name} may not log in with {login.password}")
    except PermissionError as error:
        trace.get_current_span().record_exception(error)
        log.warning("refused: %s", error)
        log.exception("refused: %s", error)
        structlog.get_logger("app").exception("refused", error=error, reason=str(error))
    return "handled"


@app.post("/sql/server")
async def fail_in_the_database(login: Login) -> None:
    """PostgreSQL's message quotes the parameter, and so does SQLAlchemy's."""
    assert engine
    async with engine.connect() as connection:
        statement = text("SELECT CAST(CAST(:value AS text) AS integer)")
        await connection.execute(statement, {"value": login.password})


@app.post("/sql/driver")
async def fail_in_the_driver(login: Login) -> str:
    """The driver refuses the parameter before it is sent."""
    assert engine
    try:
        async with engine.connect() as connection:
            await connection.execute(
                text("SELECT CAST(:value AS integer)"), {"value": login.password}
            )
    except Exception as error:
        log.exception("the statement failed: %s", error)
    return "told"


@app.post("/call")
async def call(login: Login, request: Request) -> int:
    """Pass the secrets on to another service."""
    async with httpx.AsyncClient(base_url=str(request.base_url)) as client:
        HTTPXClientInstrumentor.instrument_client(client)
        headers = {"authorization": request.headers["authorization"]}
        answer = await client.get("/nothing", params={"token": login.password}, headers=headers)
    return answer.status_code


@app.post("/background")
async def fail_later(login: Login, tasks: BackgroundTasks) -> str:
    """Fail when the answer has been sent: in the background, and in a task that nobody awaits."""

    async def fail() -> None:
        raise RuntimeError(f"too late for {login.password}")

    asyncio.get_running_loop().create_task(fail())
    tasks.add_task(fail)
    return "later"


@app.websocket("/socket")
async def fail_in_a_conversation(websocket: WebSocket) -> None:
    """Fail with what was said."""
    await websocket.accept()
    said = await websocket.receive_text()
    log.warning("heard", extra={"url": str(websocket.url), "headers": dict(websocket.headers)})
    raise ValueError(f"cannot do anything with {said}")


@app.post("/unwell")
async def make_unwell(login: Login) -> None:
    """Let a health check fail from now on."""

    async def check() -> None:
        raise ConnectionError(f"no connection to {url} for {login.password}")

    app.state.tidegate.add_check("leaky", check)


Tidegate(app, engine=engine)


@asynccontextmanager
async def fail_to_start(_: FastAPI) -> AsyncIterator[None]:
    """Do what many do with a database that is away."""
    raise RuntimeError(f"cannot connect to {url}, password {url.partition('@')[0][-20:]}")
    yield


never_started = FastAPI(lifespan=fail_to_start)
Tidegate(never_started)
