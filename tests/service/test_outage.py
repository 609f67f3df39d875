"""A collector or a Sentry that is away costs spans and events, and no request anything."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from statistics import quantiles

import httpx
import pytest

from tests.service.conftest import Serve, Service
from tests.service.envelopes import Envelopes, envelopes
from tests.sinks.otlp_sink import OtlpSink, silent_port, slow

APP = "tests.service.traced_app:app"
FAULTS = ["down", "slow", "silent", "garbage"]


@pytest.fixture
def sentry() -> Iterator[Envelopes]:
    with envelopes() as sink:
        yield sink


@pytest.fixture
def broken(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a back end, for spans and events alike, that has the fault."""
    with ExitStack() as stack:
        match request.param:
            case "down":
                with envelopes() as sink:
                    url = sink.dsn.replace("public@", "")
            case "slow":
                sink = stack.enter_context(envelopes())
                sink.let_go.clear()
                url = sink.dsn.replace("public@", "")
            case "silent":
                url = stack.enter_context(silent_port()) + "/42"
            case _:
                sink = stack.enter_context(envelopes())
                sink.answer = b"\x00\xff<html>garbage"
                url = sink.dsn.replace("public@", "")
        yield url


def served(serve: Serve, endpoint: str, dsn: str, **more: str) -> Service:
    """Start with a queue and time-outs that a short test can fill and outlast."""
    service = serve(
        APP,
        **{
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_EXPORTER_OTLP_TIMEOUT": "0.5",
            "OTEL_BSP_EXPORT_TIMEOUT": "500",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OTEL_BSP_MAX_QUEUE_SIZE": "50",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "10",
            "SENTRY_DSN": dsn,
            "TIDEGATE_DRAIN_DELAY": "0.1",
        }
        | more,
    )
    service.until_ready()
    return service


def dsn_of(url: str) -> str:
    return url.replace("://", "://public@")


@pytest.mark.parametrize("backend", ["direct", "contrib"])
@pytest.mark.parametrize("broken", FAULTS, indirect=True)
def test_requests_are_answered_the_loss_is_counted_and_told_once_and_the_end_is_in_time(
    serve: Serve, broken: str, backend: str
) -> None:
    service = served(serve, broken, dsn_of(broken), TIDEGATE_TRACES_BACKEND=backend)
    with httpx.Client(base_url=service.url) as client:
        statuses = [client.get(f"/items/{number}").status_code for number in range(150)]
    assert set(statuses) == {200}
    for _ in range(5):
        assert httpx.get(f"{service.url}/broken/x").status_code == 500

    until_lost(service)
    started = time.monotonic()
    service.process.send_signal(signal.SIGTERM)
    log = service.stop()
    assert service.process.returncode == 0
    assert time.monotonic() - started < 10
    complaints = [
        line
        for line in map(json.loads, filter(None, log.split("\n")))
        if line["level"] in {"warning", "error"}
        and line["logger"].startswith(("tidegate.export", "opentelemetry", "sentry", "urllib3"))
    ]
    about_spans = [line for line in complaints if "Sentry" not in line["message"]]
    assert len(about_spans) == 1, about_spans
    if backend == "direct":
        assert "spans ([withheld])" not in about_spans[0]["message"], "the reason is wanted"
    assert len(complaints) <= 2, complaints


def until_lost(service: Service) -> None:
    deadline = time.monotonic() + 20
    while lost_spans(service) == 0:
        assert time.monotonic() < deadline, "nothing was counted as lost"
        time.sleep(0.1)


def lost_spans(service: Service) -> float:
    exposition = httpx.get(f"{service.admin}/metrics").text
    (line,) = [
        line for line in exposition.split("\n") if line.startswith("tidegate_spans_dropped_total ")
    ]
    return float(line.partition(" ")[2])


@pytest.mark.parametrize("backend", ["direct", "contrib"])
def test_a_silent_back_end_makes_no_request_slower(
    serve: Serve, otlp_sink: OtlpSink, sentry: Envelopes, backend: str
) -> None:
    with silent_port() as silent:
        healthy = served(serve, otlp_sink.http, sentry.dsn, TIDEGATE_TRACES_BACKEND=backend)
        held_up = served(serve, silent, dsn_of(f"{silent}/42"), TIDEGATE_TRACES_BACKEND=backend)
        took: dict[str, list[float]] = {healthy.url: [], held_up.url: []}
        # uvicorn closes a connection that saw an error.
        with httpx.Client(limits=httpx.Limits(max_keepalive_connections=0)) as client:
            # In turns, so that a busy machine slows down both.
            for number in range(400):
                for url, durations in took.items():
                    path = "broken" if number % 20 == 0 else "items"
                    started = time.perf_counter()
                    client.get(f"{url}/{path}/{number}")
                    durations.append(time.perf_counter() - started)
        usual, with_silence = (quantiles(durations, n=100)[98] for durations in took.values())
        assert with_silence < 3 * usual + 0.02
        assert len(otlp_sink.spans()) > 100
        until_lost(held_up)


def test_spans_arrive_again_when_the_collector_is_back(
    serve: Serve, otlp_sink: OtlpSink, sentry: Envelopes
) -> None:
    service = served(serve, otlp_sink.http, sentry.dsn)
    otlp_sink.down()
    for number in range(60):
        assert httpx.get(f"{service.url}/items/{number}").status_code == 200
    until_lost(service)
    otlp_sink.up()
    otlp_sink.answer = slow(0.1)
    for number in range(1000, 1005):
        assert httpx.get(f"{service.url}/items/{number}").status_code == 200
    otlp_sink.until(lambda spans: any(span.attributes["item.id"] == 1004 for span in spans))


def test_a_black_holed_collector_does_not_hold_up_the_end(serve: Serve, black_hole: str) -> None:
    # With the time-outs that OpenTelemetry has by default, and more batches than fit into them.
    service = served(
        serve,
        black_hole,
        dsn_of(f"{black_hole}/42"),
        OTEL_EXPORTER_OTLP_TIMEOUT="",
        OTEL_BSP_EXPORT_TIMEOUT="",
        OTEL_BSP_SCHEDULE_DELAY="",
        OTEL_BSP_MAX_QUEUE_SIZE="",
    )
    with httpx.Client(base_url=service.url) as client:
        for number in range(100):
            client.get(f"/items/{number}")
    httpx.get(f"{service.url}/broken/x")
    started = time.monotonic()
    service.process.send_signal(signal.SIGTERM)
    service.stop()
    assert service.process.returncode == 0
    assert time.monotonic() - started < 10
