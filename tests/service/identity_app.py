"""Two applications that say who asks: bare, and under the middleware that copies contexts."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated, Any

import structlog
from fastapi import Depends, FastAPI, Request, Response
from starlette.middleware.base import RequestResponseEndpoint

from tidegate import Tidegate, bind_user, current_request

log = logging.getLogger("app")


async def bind_async(user: str) -> str:
    """Bind on the event loop."""
    bind_user(user)
    return user


def bind_sync(user: str) -> str:
    """Bind in a thread, whose context is a copy."""
    bind_user(user)
    return user


def create(*, under_middleware: bool) -> FastAPI:
    """Make one of the two."""
    app = FastAPI()

    @app.get("/async/{user}")
    async def ask(user: Annotated[str, Depends(bind_async)]) -> dict[str, Any]:
        return await tell(user)

    @app.get("/sync/{user}")
    async def ask_bound_in_a_thread(user: Annotated[str, Depends(bind_sync)]) -> dict[str, Any]:
        return await tell(user)

    @app.get("/thread/{user}")
    def ask_in_a_thread(user: Annotated[str, Depends(bind_sync)]) -> dict[str, Any]:
        return asyncio.run(tell(user))

    @app.get("/anonymous/{user}")
    async def ask_without_a_name(user: str) -> dict[str, Any]:
        return await tell(user)

    @app.get("/broken/{user}")
    async def fail(user: Annotated[str, Depends(bind_sync)]) -> None:
        await tell(user)
        raise ValueError("of no concern")

    if under_middleware:

        @app.middleware("http")
        async def pass_on(request: Request, call_next: RequestResponseEndpoint) -> Response:
            log.info("outside")
            answer = await call_next(request)
            log.info("outside")
            return answer

    Tidegate(app)
    return app


async def tell(asked_by: str) -> dict[str, Any]:
    """Log both ways while others do, and return what is known of the request."""
    log.info("stdlib", extra={"asked_by": asked_by})
    await asyncio.sleep(0.01)
    structlog.get_logger("app").info("structlog", asked_by=asked_by)
    request = current_request()
    assert request
    return {"user": request.user_id, "trace": request.trace_id, "id": request.request_id}


bare = create(under_middleware=False)
wrapped = create(under_middleware=True)
