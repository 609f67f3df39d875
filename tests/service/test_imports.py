"""Nothing heavy is imported for what is switched off."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.migrate.conftest import clean_environment
from tests.sinks.otlp_sink import OtlpSink

HEAVY = (
    *("fastapi", "starlette", "pydantic", "prometheus_client", "uvicorn", "gunicorn"),
    *("structlog", "sentry_sdk", "sqlalchemy", "alembic", "urllib3", "requests", "grpc"),
    *("opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.instrumentation"),
)
FRAMEWORKS = {"fastapi", "starlette", "pydantic", "prometheus_client"}
TELL = "import json, sys; print(json.dumps([*sys.modules]), file=sys.stderr)"  # logs go to stdout
APPLICATION = """
from fastapi import FastAPI
from tidegate import Tidegate

Tidegate(app := FastAPI())
"""
REQUEST = """
import asyncio

async def ask():
    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        if message["type"] == "http.response.start":
            assert message["status"] == 404

    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET"}
    scope |= {"path": "/", "raw_path": b"/", "root_path": "", "query_string": b"", "headers": []}
    await app(scope | {"scheme": "http", "client": None, "server": None}, receive, send)

asyncio.run(ask())
"""
EVERYTHING_OFF = {
    "TIDEGATE_LOG_FORMAT": "off",
    "TIDEGATE_METRICS": "false",
    "TIDEGATE_TRACES_BACKEND": "off",
}


def loaded(script: str, **environment: str) -> set[str]:
    """The heavy ones that a process has imported by the end of the script."""
    run = subprocess.run(
        [sys.executable, "-c", f"{script}\n{TELL}"],
        env=clean_environment() | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return set(HEAVY).intersection(json.loads(run.stderr))


def test_the_name_alone_loads_nothing() -> None:
    assert loaded("import tidegate") == set()
    assert loaded("import tidegate.schema") == set()


def test_with_everything_off_nothing_but_the_frameworks_is_loaded() -> None:
    assert loaded(APPLICATION + REQUEST, **EVERYTHING_OFF) == FRAMEWORKS


def test_by_default_only_the_logs_come_on_top() -> None:
    assert loaded(APPLICATION + REQUEST) - {"structlog"} == FRAMEWORKS


def test_a_dsn_alone_does_not_load_the_sdk_of_sentry() -> None:
    found = loaded(APPLICATION + REQUEST, SENTRY_DSN="https://key@sentry.example.org/1")
    assert found.isdisjoint({"sentry_sdk", "urllib3"})


def test_spans_are_made_and_sent_without_the_sdk_of_opentelemetry(otlp_sink: OtlpSink) -> None:
    on = {"OTEL_EXPORTER_OTLP_ENDPOINT": otlp_sink.http}
    flush = "from opentelemetry import trace; assert trace.get_tracer_provider().force_flush()"
    found = loaded(f"{APPLICATION}{REQUEST}\n{flush}", **on)
    assert [span.name for span in otlp_sink.spans()] == ["GET"]
    assert found - {"structlog"} == FRAMEWORKS


def test_what_is_asked_for_is_loaded() -> None:
    found = loaded(
        APPLICATION,
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1",
        TIDEGATE_TRACES_BACKEND="contrib",
    )
    assert {"opentelemetry.sdk", "opentelemetry.instrumentation"} <= found
