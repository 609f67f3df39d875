"""The same small application, wired in the ways that are compared.

``GET /api/v1/orders/{order_id}``: an integer path parameter and a response model of four fields
that pydantic validates and writes as JSON. No database and no sleep: about 50 µs of framework work
in all, so that what a hook adds can be seen.

A library is imported where it is wired: each row runs in an interpreter of its own, and one row
must not pay for another's imports. Rivals are wired as their own first page shows it.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

from fastapi import FastAPI
from pydantic import BaseModel


class Order(BaseModel):
    """What the client reads."""

    id: int
    product: str
    quantity: int
    total_cents: int


async def read_order(order_id: int) -> Order:
    """The handler that every row is measured with."""
    return Order(id=order_id, product="tea", quantity=2, total_cents=900)


async def _never_hit(key: str) -> dict[str, str]:
    return {"key": key}


def _app(**arguments: Any) -> FastAPI:  # noqa: ANN401 - FastAPI's own
    app = FastAPI(**arguments)
    for number in range(int(os.environ.get("BENCH_ROUTES", "0"))):
        app.add_api_route(f"/api/v1/things{number}/{{key}}", _never_hit)
    app.add_api_route("/api/v1/orders/{order_id}", read_order, response_model=Order)
    return app


def bare() -> FastAPI:
    """FastAPI as it comes."""
    return _app()


def telemetry_off() -> FastAPI:
    """FastAPI with its own telemetry switched off by argument."""
    return _app(telemetry={"tracing": False, "metrics": False, "logs": False})


def tidegate() -> FastAPI:
    """Ours; the environment says which hooks are on."""
    from tidegate import Tidegate

    app = _app()
    Tidegate(app)
    return app


def instrumentator() -> FastAPI:
    """Metrics by prometheus-fastapi-instrumentator."""
    from prometheus_fastapi_instrumentator import Instrumentator

    app = _app()
    Instrumentator().instrument(app).expose(app)
    return app


def exporter() -> FastAPI:
    """Metrics by starlette-exporter."""
    from starlette_exporter import PrometheusMiddleware, handle_metrics

    app = _app()
    app.add_middleware(PrometheusMiddleware)
    app.add_route("/metrics", handle_metrics)
    return app


def _set_provider() -> None:
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()  # sampler and resource from the environment
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def contrib() -> FastAPI:
    """Traces by opentelemetry-instrumentation-fastapi."""
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

    _set_provider()
    app = _app()
    FastAPIInstrumentor.instrument_app(app)
    return app


def native() -> FastAPI:
    """Traces by FastAPI itself, which wakes when a provider is set."""
    _set_provider()
    return _app()


def sentry() -> FastAPI:
    """Sentry with nothing but its DSN."""
    import sentry_sdk

    sentry_sdk.init(dsn=os.environ["SENTRY_DSN"])
    return _app()


def sentry_traced() -> FastAPI:
    """Sentry as its quick start has it."""
    import sentry_sdk

    sentry_sdk.init(dsn=os.environ["SENTRY_DSN"], traces_sample_rate=1.0)
    return _app()


def sentry_errors() -> FastAPI:
    """Sentry without integrations: events only where the application asks for one."""
    import sentry_sdk

    sentry_sdk.init(
        dsn=os.environ["SENTRY_DSN"], default_integrations=False, auto_enabling_integrations=False
    )
    return _app()


def logfire() -> FastAPI:
    """Traces by logfire, to the same collector."""
    import logfire

    # It reads OTEL_EXPORTER_OTLP_ENDPOINT itself.
    logfire.configure(send_to_logfire=False, console=False)
    app = _app()
    logfire.instrument_fastapi(app)
    return app


def elastic() -> FastAPI:
    """Transactions by Elastic's agent."""
    from elasticapm.contrib.starlette import ElasticAPM, make_apm_client

    client = make_apm_client({"SERVICE_NAME": "bench", "SERVER_URL": os.environ["BENCH_APM"]})
    app = _app()
    app.add_middleware(ElasticAPM, client=client)
    return app


def naive() -> FastAPI:
    """What tutorials wire, all of it at once."""
    import sentry_sdk
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    from prometheus_fastapi_instrumentator import Instrumentator
    from starlette.middleware.base import BaseHTTPMiddleware
    from starlette.requests import Request
    from starlette.responses import Response

    logger = logging.getLogger("requests")
    logger.setLevel(logging.INFO)
    logger.addHandler(logging.StreamHandler(sys.stdout))

    class AccessLog(BaseHTTPMiddleware):
        async def dispatch(
            self, request: Request, call_next: Callable[[Request], Awaitable[Response]]
        ) -> Response:
            request_id = str(uuid4())
            began = time.perf_counter()
            response = await call_next(request)
            line = {
                "request_id": request_id,
                "method": request.method,
                "path": request.url.path,
                "status": response.status_code,
                "duration_ms": round((time.perf_counter() - began) * 1000, 2),
                "client": request.client.host if request.client else None,
                "user_agent": request.headers.get("user-agent"),
            }
            logger.info(json.dumps(line))
            response.headers["X-Request-ID"] = request_id
            return response

    sentry_sdk.init(dsn=os.environ["SENTRY_DSN"], traces_sample_rate=1.0)
    _set_provider()
    app = _app()
    app.add_middleware(AccessLog)
    Instrumentator().instrument(app).expose(app)
    FastAPIInstrumentor.instrument_app(app)
    return app
