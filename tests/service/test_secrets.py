"""A secret that a client sends, or that the environment holds, is in no sink whatsoever."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.service.conftest import Serve
from tests.service.envelopes import Envelopes, envelopes
from tests.sinks.collector import Collector

APP = "tests.service.leaky_app:app"

# One for each way in, so that a failure says which.
BODY, QUERY, COOKIE = "c4n4ry-body", "c4n4ry-query", "c4n4ry-cookie"
AUTHORIZATION, API_KEY, BAGGAGE = "c4n4ry-authorization", "c4n4ry-api-key", "c4n4ry-baggage"
DATABASE, SENTRY, COLLECTOR = "c4n4ry-database", "c4n4ry-sentry", "c4n4ry-collector"
CANARY = "c4n4ry"

HEADERS = {
    "authorization": f"Bearer {AUTHORIZATION}",
    "cookie": f"session={COOKIE}; theme=dark",
    "x-api-key": API_KEY,
}
# Each makes OpenTelemetry's own propagators complain.
BROKEN = {
    "traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
    "baggage": f"{BAGGAGE},user={BAGGAGE};{BAGGAGE}=\xe4",
    "tracestate": BAGGAGE,
}
LOGIN = {"name": "ann", "password": BODY}


@pytest.fixture
def sentry() -> Iterator[Envelopes]:
    with envelopes() as sink:
        yield sink


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("backend", ["direct", "contrib"])
def test_a_secret_is_in_no_sink(
    serve: Serve,
    collector: Collector,
    sentry: Envelopes,
    migrated_url: str,
    backend: str,
    protocol: str,
) -> None:
    service = serve(
        APP,
        DATABASE_URL=with_password(migrated_url),
        SENTRY_DSN=sentry.dsn.replace("public@", f"public:{SENTRY}@"),
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.grpc if protocol == "grpc" else collector.http,
        OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
        OTEL_EXPORTER_OTLP_HEADERS=f"x-honeycomb-team={COLLECTOR}",
        OTEL_BSP_SCHEDULE_DELAY="100",
        TIDEGATE_TRACES_BACKEND=backend,
        TIDEGATE_LOG_LEVEL="debug",
        TIDEGATE_DRAIN_DELAY="0.1",
    )
    service.until_ready()
    said: list[str] = []

    with httpx.Client(
        base_url=service.url,
        params={"token": QUERY, "code": QUERY},
        headers=HEADERS,
        limits=httpx.Limits(max_keepalive_connections=0),  # uvicorn closes one that saw an error
    ) as client:

        def post(path: str, status: int, body: dict[str, object] | None = None) -> None:
            assert client.post(path, json=LOGIN | (body or {})).status_code == status

        post("/login", 500)
        post("/login", 422, {"age": BODY})
        post("/handled", 200)
        post("/sql/server", 500)
        post("/sql/driver", 200)
        post("/call", 200)
        post("/background", 200)
        broken = [(name.encode(), value.encode("latin-1")) for name, value in BROKEN.items()]
        assert client.get("/nothing", headers=broken).status_code == 404
        say(f"{service.url}/socket?token={QUERY}", BODY)
        said.append(httpx.get(f"{service.admin}/health/ready").text)
        post("/unwell", 200)
        service.until(lambda answer: "leaky" in answer.text and answer.status_code == 503)
        said += [httpx.get(f"{service.admin}{path}").text for path in ("/health/ready", "/metrics")]

    # Every sink got what it was to get: silence would prove nothing.
    events = [sentry.event() for _ in range(4)]
    assert {event["transaction"] for event in events} == {
        "POST /login",
        "POST /sql/server",
        "POST /background",
        "WS /socket",
    }
    spans = collector.until(lambda spans: sum(span.kind == "server" for span in spans) >= 11)
    assert any(event.name == "exception" for span in spans for event in span.events)
    assert any(span.attributes.get("user.password") == "[scrubbed]" for span in spans)
    assert any(span.kind == "client" and "url.full" in span.attributes for span in spans) or any(
        span.kind == "client" and "http.url" in span.attributes for span in spans
    )
    assert sum("postgresql" in map(str, span.attributes.values()) for span in spans) >= 2

    service.process.send_signal(signal.SIGTERM)
    log = service.stop()
    foreign = [line for line in log.split("\n") if line and not line.startswith("{")]
    assert not foreign, "nothing is written past the pipeline"
    lines = [json.loads(line) for line in log.split("\n") if line]
    told = [line for line in lines if line["logger"] == "app"]
    assert len(told) >= 6
    assert {line["exception"]["type"] for line in lines if "exception" in line} >= {
        "PermissionError",
        "sqlalchemy.exc.DBAPIError",
        "RuntimeError",
    }
    assert {"tidegate.access", "tidegate.error", "asyncio"} <= {line["logger"] for line in lines}
    assert "http_requests_total" in said[-1]

    assert CANARY not in log
    assert CANARY not in collector.raw()
    assert CANARY not in json.dumps(events)
    assert CANARY not in str(sentry.bodies())
    assert CANARY not in "".join(said)


def test_a_password_is_not_told_by_an_application_that_cannot_start(serve: Serve) -> None:
    service = serve(
        "tests.service.leaky_app:never_started",
        DATABASE_URL=f"postgresql://orders:{DATABASE}@127.0.0.1:1/orders",
    )
    log = service.stop()
    assert service.process.returncode == 3
    assert "Application startup failed" in log
    assert CANARY not in log


@pytest.mark.parametrize("text", ["false", "true"])
def test_a_password_is_not_told_by_an_application_that_cannot_be_imported(
    serve: Serve, text: str
) -> None:
    service = serve(
        "tests.service.unimportable_app:app",
        DATABASE_URL=f"postgresql://orders:{DATABASE}@127.0.0.1:1/orders",
        TIDEGATE_EXCEPTION_TEXT=text,
    )
    log = service.stop()
    assert service.process.returncode == 3
    [line] = map(json.loads, log.splitlines())
    assert line["level"] == "critical"
    assert "tests.service.unimportable_app:app cannot be imported" in line["message"]
    assert line["exception"]["type"] == "RuntimeError"
    assert line["exception"]["stack"][-1]["file"].endswith("unimportable_app.py")
    assert CANARY not in log
    assert ("cannot connect to postgresql" in log) == (text == "true")


@pytest.mark.parametrize("backend", ["direct", "contrib"])
def test_a_key_that_no_header_can_carry_is_refused_without_being_told(
    serve: Serve, backend: str
) -> None:
    service = serve(
        APP,
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1",
        OTEL_EXPORTER_OTLP_HEADERS=f"x-honeycomb-team={COLLECTOR}%0A",
        TIDEGATE_TRACES_BACKEND=backend,
    )
    log = service.stop()
    assert service.process.returncode == 2
    assert "OTEL_EXPORTER_OTLP_HEADERS" in log
    assert CANARY not in log


def say(url: str, text: str) -> None:
    """Say something to a WebSocket that fails of it."""
    with connect(url.replace("http", "ws", 1), additional_headers=HEADERS) as socket:
        socket.send(text)
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=10)


def with_password(url: str) -> str:
    """The same database, which trusts everybody, with a password in the URL."""
    scheme, _, rest = url.partition("://")
    user, _, place = rest.partition("@")
    return f"{scheme}://{user.partition(':')[0]}:{DATABASE}@{place}"
