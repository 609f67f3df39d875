"""How often a request is matched a second time, to know its route's template."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from tidegate import routes
from tidegate.routes import RouteTemplates


class Watched:
    """An application, the templates of its requests, and how often one was matched for them."""

    def __init__(self, app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
        self.matched = 0
        self.templates: list[str] = []
        self._app: ASGIApp = app
        self._of = RouteTemplates(app)
        match = routes._name

        def count(scope: Scope) -> str | None:
            self.matched += 1
            return match(scope)

        monkeypatch.setattr(routes, "_name", count)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = 500

        async def note(message: dict[str, object]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                assert isinstance(message["status"], int)
                status = message["status"]
            await send(message)

        await self._app(scope, receive, note)  # type: ignore[arg-type]
        self.templates.append(self._of.of(scope, status))

    async def get(self, *paths: str) -> list[str]:
        """Ask for each path; return their templates."""
        self.templates.clear()
        transport = httpx.ASGITransport(self)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            for path in paths:
                await client.get(path)
        return list(self.templates)


async def plain(_: Request) -> PlainTextResponse:
    return PlainTextResponse("plain")


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Watched:
    (tmp_path / "page.txt").write_text("a page")
    app = FastAPI()
    router = APIRouter(prefix="/v1")

    @router.get("/items/{x}")
    async def item(x: int) -> int:
        return x

    app.include_router(router)
    app.add_route("/plain/{x}", plain)

    async def twice(_: Request) -> PlainTextResponse:
        return PlainTextResponse("twice")

    app.add_route("/one/{x}", twice)
    app.add_route("/two/{x}", twice)
    app.mount("/static", StaticFiles(directory=tmp_path))

    async def below(_: Request) -> PlainTextResponse:
        return PlainTextResponse("below")

    app.mount("/sub", Starlette(routes=[Route("/q/{y}", below)]))
    return Watched(app, monkeypatch)


@pytest.mark.parametrize(
    ("path", "template", "matched"),
    [
        ("/v1/items/{}", "/v1/items/{x}", 0),  # FastAPI has said it
        ("/plain/{}", "/plain/{x}", 1),
        ("/static/page.txt?{}", "/static", 1),
        ("/sub/q/{}", "/sub/q/{y}", 1),
    ],
)
async def test_a_route_is_matched_once_at_most_however_often_it_is_taken(
    watched: Watched, path: str, template: str, matched: int
) -> None:
    found = await watched.get(*(path.format(number) for number in range(5)))

    assert found == [template] * 5
    assert watched.matched == matched


async def test_what_no_route_takes_is_not_matched_at_all(watched: Watched) -> None:
    assert await watched.get("/nothing", "/v1/nothing") == ["none", "none"]
    assert watched.matched == 0


async def test_an_endpoint_of_two_routes_tells_them_apart(watched: Watched) -> None:
    found = await watched.get("/one/1", "/two/1", "/one/2")
    assert found == ["/one/{x}", "/two/{x}", "/one/{x}"]
