"""Requests measured twice: by prometheus-fastapi-instrumentator and by the hook."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_fastapi_instrumentator import Instrumentator
from prometheus_fastapi_instrumentator.metrics import Info
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.staticfiles import StaticFiles

from tidegate.hook import Hook
from tidegate.instrumentations import Instrumentations
from tidegate.ledger import Ledger
from tidegate.lifecycle import Lifecycle
from tidegate.metrics import HttpMetrics, SharedHttpMetrics, SummedHttpMetrics
from tidegate.routes import RouteTemplates

KNOWN = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]


def make_app(static: Path) -> FastAPI:
    """One of each: routers in routers, mounts, plain routes, redirects, errors, middleware."""
    app = FastAPI()
    inner = APIRouter(prefix="/inner")

    @inner.get("/{x}")
    async def read(x: int) -> dict[str, int]:
        return {"x": x}

    @inner.post("/{x}")
    async def write(x: int, request: Request) -> Response:
        return Response(await request.body(), 201)

    outer = APIRouter(prefix="/outer")
    outer.include_router(inner)
    app.include_router(outer, prefix="/v1")
    app.include_router(outer, prefix="/v2")

    @app.get("/slash/")
    async def slash() -> str:
        return "slash"

    @app.get("/teapot")
    async def teapot() -> None:
        raise HTTPException(418)

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("broken")

    async def plain(_: Request) -> PlainTextResponse:
        return PlainTextResponse("plain")

    app.add_route("/plain/{y}", plain)
    below = FastAPI()
    below.include_router(inner)
    app.mount("/below", below)
    app.mount("/tenants/{tenant}", Starlette(routes=[Route("/q/{w}", plain)]))
    app.mount("/static", StaticFiles(directory=static))

    @app.middleware("http")
    async def refuse(request: Request, call_next) -> Response:  # type: ignore[no-untyped-def]  # noqa: ANN001
        if "refuse" in request.query_params:
            return Response(status_code=403)
        answer: Response = await call_next(request)
        return answer

    return app


def mixed_requests(count: int = 200) -> Iterator[tuple[str, str, bytes]]:
    """Method, path and body of each, the same at every run."""
    chance = random.Random(4)
    paths = (
        "/v1/outer/inner/{n}",
        "/v2/outer/inner/{n}",
        "/v1/outer/inner/no-number",
        "/slash/",
        "/slash",
        "/teapot",
        "/broken",
        "/plain/{n}",
        "/below/inner/{n}",
        "/below/nothing",
        "/tenants/t{n}/q/1",
        "/tenants/t{n}/nothing",
        "/static/page.txt",
        "/static/nothing",
        "/openapi.json",
        "/nothing/{n}",
        "/v1/outer/inner/{n}?refuse",
    )
    for number in range(count):
        method = chance.choice(KNOWN)
        yield method, chance.choice(paths).format(n=number), b"x" * chance.choice((0, 0, 10, 3000))


@dataclass
class Measured:
    """An application, and what measured it."""

    app: FastAPI
    registry: CollectorRegistry

    async def send(self, requests: Iterator[tuple[str, str, bytes]]) -> None:
        """Send them one after another."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            for method, path, body in requests:
                await client.request(method, path, content=body)


def by_the_instrumentator(app: FastAPI) -> Measured:
    registry = CollectorRegistry()
    Instrumentator(registry=registry).instrument(app)
    return Measured(app, registry)


def by_the_hook(
    app: FastAPI,
    make: Callable[[CollectorRegistry], HttpMetrics] = SummedHttpMetrics,
    instrumentations: Instrumentations | None = None,
) -> Measured:
    registry = CollectorRegistry()
    build, metrics = app.build_middleware_stack, make(registry)
    app.build_middleware_stack = lambda: Hook(  # type: ignore[method-assign]
        build(),
        routes=RouteTemplates(app),
        lifecycle=Lifecycle(),
        ledger=Ledger(metrics),
        instrumentations=instrumentations,
    )
    return Measured(app, registry)


def shape(registry: CollectorRegistry) -> dict[str, tuple[str, str, dict[str, float]]]:
    """Each family's type, help and samples; durations without their values."""
    return {
        family.name: (family.type, family.documentation, dict(_values(family)))
        for family in registry.collect()
    }


def _values(family: Metric) -> Iterator[tuple[str, float]]:
    for sample in family.samples:
        # When a series began is a moment, and so is a duration; only their numbers can agree.
        if sample.name.endswith("_created"):
            continue
        timed = "duration" in family.name and not sample.name.endswith("_count")
        yield f"{sample.name}{sorted(sample.labels.items())}", 0 if timed else sample.value


@pytest.fixture
def static(tmp_path: Path) -> Path:
    (tmp_path / "page.txt").write_text("a page")
    return tmp_path


@pytest.mark.parametrize("make", [SummedHttpMetrics, SharedHttpMetrics])
async def test_the_same_requests_give_the_same_exposition_as_the_instrumentator(
    static: Path, make: Callable[[CollectorRegistry], HttpMetrics]
) -> None:
    theirs, ours = by_the_instrumentator(make_app(static)), by_the_hook(make_app(static), make)

    await theirs.send(mixed_requests())
    await ours.send(mixed_requests())

    expected = shape(theirs.registry)
    assert len(expected) == 5
    assert shape(ours.registry) == expected


async def test_random_paths_and_invented_verbs_add_no_series(static: Path) -> None:
    measured = by_the_hook(make_app(static))
    await measured.send((method, f"/{path}/1", b"") for method in KNOWN for path in ("plain", "no"))
    await measured.send((f"VERB{n}", "/plain/1", b"") for n in range(2))

    before = shape(measured.registry)
    await measured.send(("GET", f"/{n}/{n * 7919:x}", b"") for n in range(10_000))
    await measured.send((f"VERB{n}", "/plain/1", b"") for n in range(100))

    assert [family[2].keys() for family in shape(measured.registry).values()] == [
        family[2].keys() for family in before.values()
    ]


async def test_a_redirect_to_a_path_with_parameters_is_one_series() -> None:
    app = FastAPI()

    @app.get("/items/{x}/")
    async def item(x: int) -> int:
        return x

    measured = by_the_hook(app)
    await measured.send(("GET", f"/items/{n}", b"") for n in range(50))

    counted = shape(measured.registry)["http_requests"][2]
    assert counted == {
        "http_requests_total[('handler', '/items/{x}'), ('method', 'GET'), ('status', '3xx')]": 50
    }


async def test_an_instrumentation_written_for_the_instrumentator_runs_unchanged(
    static: Path,
) -> None:
    seen: list[tuple[str, str, str, int, str | None]] = []

    def custom(info: Info) -> None:
        assert info.response is not None
        answer = info.response
        seen.append(
            (
                info.method,
                info.modified_handler,
                info.modified_status,
                answer.status_code,
                answer.headers.get("content-type"),
            )
        )
        assert info.modified_duration >= info.modified_duration_without_streaming > 0

    async def custom_async(info: Info) -> None:
        raise ValueError("an instrumentation that fails costs the request nothing")

    instrumentations = Instrumentations()
    instrumentations.add(custom, custom_async, None)
    measured = by_the_hook(make_app(static), instrumentations=instrumentations)
    await measured.send(iter([("GET", "/plain/1", b""), ("GET", "/teapot", b"")]))

    assert seen == [
        ("GET", "/plain/{y}", "2xx", 200, "text/plain; charset=utf-8"),
        ("GET", "/teapot", "4xx", 418, "application/json"),
    ]
