"""What a scrape of a served application gets, and what no client can make of it."""

from __future__ import annotations

import http.client
import random
import socket
import time
from collections.abc import Callable, Iterator
from itertools import islice

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.service.conftest import Serve, Service
from tests.service.test_plain_uvicorn import Start
from tests.service.test_plain_uvicorn import start as start
from tests.sinks.collector import Collector
from tests.sinks.promtool import promtool

APP = "tests.service.traced_app:app"
OPENMETRICS = {"accept": "application/openmetrics-text;version=1.0.0"}
SAMPLED = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
KNOWN = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY", "TRACE")


def mix(service: Service) -> None:
    """One of each: statuses, verbs, bodies, a sampled request."""
    for method in KNOWN:
        for path in ("/items/7", "/items/no-number", "/nothing", "/broken/x", "/items/7/"):
            httpx.request(method, service.url + path, content=b"body")
    httpx.get(f"{service.url}/items/8", headers=SAMPLED)


def test_an_exposition_after_mixed_traffic_passes_promtool(
    serve: Serve, collector: Collector, migrated_url: str
) -> None:
    service = serve(APP, OTEL_EXPORTER_OTLP_ENDPOINT=collector.http, DATABASE_URL=migrated_url)
    service.until_ready()
    mix(service)
    answer = httpx.get(f"{service.admin}/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert promtool(answer.text) == []
    names = {family.name for family in parse_text(answer.text)}
    assert {
        *("http_requests", "http_request_duration_seconds", "http_requests_inprogress"),
        *("tidegate_event_loop_lag_seconds", "tidegate_build_info", "tidegate_spans_dropped"),
        *("tidegate_database_pool_size", "tidegate_database_pool_in_use"),
        *("tidegate_database_pool_waiting", "tidegate_schema_verdict"),
    } <= names


def test_openmetrics_carries_the_trace_of_a_sampled_request(
    serve: Serve, collector: Collector
) -> None:
    service = serve(
        APP,
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.http,
        OTEL_TRACES_SAMPLER="parentbased_always_off",
    )
    service.until_ready()
    mix(service)
    answer = httpx.get(f"{service.admin}/metrics", headers=OPENMETRICS)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    found = parse_openmetrics(answer.text)  # type: ignore[no-untyped-call]
    families = {family.name: family for family in found}
    exemplars = [
        sample.exemplar
        for family in families.values()
        for sample in family.samples
        if sample.exemplar
    ]
    assert {family.name for family in families.values() if family.name.startswith("http_")} >= {
        "http_requests",
        "http_request_size_bytes",
        "http_response_size_bytes",
        "http_request_duration_seconds",
        "http_request_duration_highr_seconds",
    }
    assert exemplars
    assert {exemplar.labels["trace_id"] for exemplar in exemplars} == {"a" * 32}
    assert all(exemplar.value > 0 for exemplar in exemplars)


def by_tidegate(serve: Serve, _: Start) -> Service:
    return serve(APP)


def by_uvicorn_on_h11(_: Serve, start: Start) -> Service:
    return start("uvicorn", APP, "--port", "PORT", "--http", "h11", "--no-access-log")


@pytest.mark.parametrize("server", [by_tidegate, by_uvicorn_on_h11])
def test_random_paths_and_invented_verbs_add_no_series_and_no_time(
    serve: Serve, start: Start, server: Callable[[Serve, Start], Service]
) -> None:
    service = server(serve, start)
    service.until_ready()
    host, _, port = service.url.removeprefix("http://").partition(":")
    mix(service)
    for _ in range(2):
        speak(host, int(port), "INVENTED", "/items/7")
        speak(host, int(port), "INVENTED", "/nothing")
    before = series(service)
    assert ("http_requests_total", (("handler", "none"), ("method", "GET"), ("status", "4xx"))) in (
        before
    )

    paths = random_paths()
    took = []
    for _ in range(10):
        started = time.perf_counter()
        connection = http.client.HTTPConnection(host, int(port), timeout=30)
        for path in islice(paths, 1000):
            connection.request("GET", path)
            connection.getresponse().read()
        connection.close()
        took.append(time.perf_counter() - started)
    accepted = sum(speak(host, int(port), f"VERB{number}", "/items/7") for number in range(100))

    assert series(service) == before
    assert (accepted == 100) is (server is by_uvicorn_on_h11), "httptools knows no other verbs"
    assert min(took[5:]) < 2 * min(took[:5]) + 0.1
    started = time.perf_counter()
    assert len(httpx.get(f"{service.admin}/metrics").content) < 200_000
    assert time.perf_counter() - started < 2


def random_paths() -> Iterator[str]:
    """Paths that no route takes, that one takes and refuses, and that one redirects."""
    chance = random.Random(4)
    while True:
        word = f"{chance.getrandbits(64):x}"
        yield chance.choice(
            [
                f"/{word}",
                f"/{word}/{word}?q={word}",
                f"/items/{word}",
                f"/items/{word}/",
                f"//{word}",
            ]
        )


def speak(host: str, port: int, method: str, path: str) -> bool:
    """Send a request with any verb; whether it can be read, and so reaches the application."""
    with socket.create_connection((host, port), timeout=10) as connection:
        connection.sendall(
            f"{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode()
        )
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    return not answer.startswith(b"HTTP/1.1 400 ")


def series(service: Service) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    """Names and labels of every series there is."""
    exposition = httpx.get(f"{service.admin}/metrics").text
    return {
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in parse_text(exposition)
        for sample in family.samples
    }
