"""Connections and requests that do not end as they should still have their ids and their line."""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest
import websockets

from tests.service.conftest import Serve, Service

APP = "tests.service.refusing_app:app"


def lines_of(service: Service) -> list[dict[str, Any]]:
    service.process.terminate()
    return [json.loads(line) for line in service.stop().splitlines() if line.startswith("{")]


@pytest.mark.parametrize(
    ("path", "status"), [("/denied", 401), ("/closed", 403), ("/nothing", 403)]
)
async def test_a_websocket_that_is_refused_is_a_line_with_the_status_that_the_client_saw(
    serve: Serve, path: str, status: int
) -> None:
    service = serve(APP, TIDEGATE_DRAIN_DELAY="0.1")
    service.until_ready()
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(service.url.replace("http", "ws") + path)

    assert refused.value.response.status_code == status
    lines = lines_of(service)
    assert {each["level"] for each in lines} == {"info"}
    (line,) = (each for each in lines if each["logger"] == "tidegate.access")
    assert line["http.response.status_code"] == status
    if path == "/denied":  # the other two are answered by the server
        assert refused.value.response.headers["x-request-id"] == line["request_id"]


def test_pipelined_requests_do_not_share_what_the_first_has_bound(serve: Serve) -> None:
    service = serve(APP, TIDEGATE_DRAIN_DELAY="0.1")
    service.until_ready()
    address = urlsplit(service.url)
    with socket.create_connection((address.hostname, address.port or 0)) as client:
        request = "GET /bind/{} HTTP/1.1\r\nHost: x\r\n{}\r\n"
        client.sendall(
            (request.format("alice", "") + request.format("", "Connection: close\r\n")).encode()
        )
        answer = b""
        while received := client.recv(65536):
            answer += received
    assert answer.count(b"200 OK") == 2

    first, second = (each for each in lines_of(service) if each["logger"] == "app")
    assert first["who"] == "alice"
    assert "who" not in second


def test_a_request_that_is_cut_at_the_time_out_has_its_line_beside_a_custom_instrumentation(
    serve: Serve,
) -> None:
    service = serve(APP, TIDEGATE_DRAIN_DELAY="0.1", TIDEGATE_DRAIN_TIMEOUT="1")
    service.until_ready()
    address = urlsplit(service.url)
    with socket.create_connection((address.hostname, address.port or 0)) as client:
        client.sendall(b"GET /never HTTP/1.1\r\nHost: x\r\n\r\n")
        client.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.recv(1)
        lines = lines_of(service)

    (line,) = (each for each in lines if each["logger"] == "tidegate.access")
    assert line["http.route"] == "/never"
    assert not any("AttributeError" in json.dumps(each) for each in lines)
