"""Whose line is it: one identity in every sink, and never that of another request."""

from __future__ import annotations

import json
import re
import signal
import socket
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.service.conftest import Serve, Service
from tests.service.envelopes import Envelopes, envelopes
from tests.sinks.collector import Collector

BARE, WRAPPED = "tests.service.identity_app:bare", "tests.service.identity_app:wrapped"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
WAYS = ("async", "sync", "thread", "anonymous")

Line = dict[str, Any]


@pytest.fixture
def sentry() -> Iterator[Envelopes]:
    with envelopes() as sink:
        yield sink


def lines_of(service: Service) -> list[Line]:
    """Stop the service; all it logged. One line that is no JSON fails."""
    service.process.send_signal(signal.SIGTERM)
    return [json.loads(line) for line in service.stop().split("\n") if line.startswith("{")]


@pytest.mark.parametrize("app", [BARE, WRAPPED])
@pytest.mark.parametrize("backend", ["direct", "contrib", "off"])
@pytest.mark.parametrize("headers", [{}, {"traceparent": f"00-{TRACE}-{PARENT}-01"}])
def test_one_trace_id_is_in_every_line_the_event_the_span_and_the_answer(
    serve: Serve,
    collector: Collector,
    sentry: Envelopes,
    app: str,
    backend: str,
    headers: dict[str, str],
) -> None:
    service = serve(
        app,
        SENTRY_DSN=sentry.dsn,
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.http,
        TIDEGATE_TRACES_BACKEND=backend,
        TIDEGATE_DRAIN_DELAY="0.1",
    )
    service.until_ready()
    answer = httpx.get(f"{service.url}/broken/ann", headers=headers)
    assert answer.status_code == 500
    version, trace_id, span_id, sampled = answer.headers["traceresponse"].split("-")
    request_id = answer.headers["x-request-id"]
    assert version == "00"
    if headers:
        assert trace_id == TRACE
    assert sampled == ("01" if headers or backend != "off" else "00")

    event = sentry.event()
    assert event["contexts"]["trace"] == {"trace_id": trace_id, "span_id": span_id}
    assert event["tags"] == {"request_id": request_id}
    assert event["user"] == {"id": "ann"}
    lines = lines_of(service)
    mine = [line for line in lines if "request_id" in line]
    assert {line["request_id"] for line in mine} == {request_id}
    assert {line["trace_id"] for line in mine} == {trace_id}
    assert {line["span_id"] for line in mine} == {span_id}
    said = [line["message"] for line in mine]
    assert {"stdlib", "structlog", "request", "Unhandled exception in GET /broken/{user}"} <= {
        *said
    }
    assert said.count("stdlib") == said.count("request") == 1
    assert sum("exception" in line for line in lines) == 1, "it is told once, by whomever"
    assert all(line["user_id"] == "ann" for line in mine if line["message"] != "outside")
    assert service.process.returncode == 0
    if backend != "off":
        (span,) = [span for span in collector.until(bool) if span.kind == "server"]
        assert (span.trace_id, span.span_id) == (trace_id, span_id)
        assert span.parent_span_id == (PARENT if headers else "")


@pytest.mark.parametrize("app", [BARE, WRAPPED])
def test_no_line_names_the_user_of_another_request(
    serve: Serve, collector: Collector, app: str
) -> None:
    service = serve(
        app,
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.http,
        OTEL_TRACES_SAMPLER="traceidratio",
        OTEL_TRACES_SAMPLER_ARG="0.5",
        TIDEGATE_DRAIN_DELAY="0.1",
    )
    service.until_ready()
    asked: dict[str, tuple[str, str]] = {}  # by request id: the way, and who asked

    def ask(client: httpx.Client, number: int) -> None:
        way, user = WAYS[number % len(WAYS)], f"user-{number}"
        asked[f"req-{number}"] = way, user
        answer = client.get(f"/{way}/{user}", headers={"x-request-id": f"req-{number}"})
        expected = None if way == "anonymous" else user
        assert (answer.json()["user"], answer.json()["id"]) == (expected, f"req-{number}")
        assert answer.json()["trace"] == answer.headers["traceresponse"].split("-")[1]

    def keep_one_connection(first: int) -> None:
        with httpx.Client(base_url=service.url) as client:
            for number in range(first, first + 20):
                ask(client, number)

    keep_one_connection(0)
    with ThreadPoolExecutor(10) as clients:
        list(clients.map(keep_one_connection, range(20, 220, 20)))

    lines = lines_of(service)
    by_request = defaultdict(list)
    for line in lines:
        if "request_id" in line:
            by_request[line["request_id"]].append(line)
    assert by_request.keys() == asked.keys()
    traces = set()
    for request_id, (way, user) in asked.items():
        mine = by_request[request_id]
        by_message = {line["message"]: line for line in mine}
        assert {"stdlib", "structlog", "request"} <= by_message.keys()
        for message in ("stdlib", "structlog"):
            assert by_message[message]["asked_by"] == user
        users = {line.get("user_id") for line in mine if line["message"] != "outside"}
        assert users == {None if way == "anonymous" else user}
        (trace_id,) = {line["trace_id"] for line in mine}
        traces.add(trace_id)
    assert len(traces) == len(asked)


SANE = [
    b"a",
    b"x" * 128,
    b'say "\\"hello\\\\" {"level":"fatal"}'.replace(b" ", b"_"),
    b'only"quotes"',
    rb"only\backslashes\u0041",
    b"</script>",
    b"%0d%0a",
    b"'; DROP TABLE orders --".replace(b" ", b"+"),
]
HOSTILE = [
    b"",
    b"   ",
    b"x" * 129,
    b"x" * 10_000,
    b"two words",
    b"tab\tinside",
    b"control\x01\x1b[31m",
    b"delete\x7f",
    b"nul\x00",
    b"caf\xc3\xa9",
    b"latin\xe9",
    b"line\nX-Injected: yes",
    b"folded\r\n X-Injected: yes",
    b"return\rX-Injected: yes",
]


@pytest.mark.parametrize("traceparent", [b"", b"00-%b-%b-01" % (b"0" * 32, b"0" * 16), b"\xff" * 9])
def test_no_request_id_breaks_a_line_or_a_header(serve: Serve, traceparent: bytes) -> None:
    service = serve(BARE, TIDEGATE_DRAIN_DELAY="0.1")
    service.until_ready()
    taken = [speak(service.url, sane, traceparent) for sane in SANE]
    refused = [speak(service.url, hostile, traceparent) for hostile in HOSTILE]

    assert [headers.get(b"x-request-id") for headers in taken] == SANE
    # The server itself refuses some, the others reach the application: all have an id of ours.
    made = [headers[b"x-request-id"].decode() for headers in refused]
    assert [each for each in made if not re.fullmatch("[0-9a-f]{32}", each)] == []
    assert not any(b"x-injected" in headers for headers in taken + refused)
    lines = lines_of(service)
    access = [line for line in lines if line["logger"] == "tidegate.access"]
    assert [line["request_id"] for line in access] == [sane.decode() for sane in SANE] + made
    assert all(line["level"] == "info" for line in access)
    assert len({line["trace_id"] for line in access}) == len(access)


def speak(url: str, request_id: bytes, traceparent: bytes) -> dict[bytes, bytes]:
    """Send a request byte by byte as written here; the answer's headers."""
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(
            b"GET /anonymous/x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
            b"x-request-id: %b\r\ntraceparent: %b\r\n\r\n" % (request_id, traceparent)
        )
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    _, *headers = answer.partition(b"\r\n\r\n")[0].split(b"\r\n")
    return dict(header.split(b": ", 1) for header in headers)
