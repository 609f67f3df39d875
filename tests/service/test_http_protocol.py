"""What comes before the application is asked is bounded, and refused as everything else is."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn
import websockets
from fastapi import FastAPI, Request
from starlette.requests import ClientDisconnect
from uvicorn.server import ServerState

from tests.service.conftest import Serve
from tidegate import Tidegate, http_protocol
from tidegate.http_protocol import BoundedHttpProtocol
from tidegate.settings import Settings

MOST = 1024


@pytest.fixture
async def told() -> asyncio.Future[str]:
    """What the application heard instead of a body."""
    return asyncio.get_running_loop().create_future()


@pytest.fixture
async def port(told: asyncio.Future[str]) -> AsyncIterator[int]:
    """The port of an application that is served by the protocol, with small bounds."""
    app = FastAPI()

    @app.api_route("/", methods=["GET", "POST"])
    async def show(request: Request) -> dict[str, str]:
        try:
            await request.body()
        except ClientDisconnect:
            told.set_result("ClientDisconnect")
        return dict(request.headers)

    Tidegate(app, settings=Settings(log_format="off", metrics=False, head_bytes=MOST))
    config = uvicorn.Config(app, log_config=None, lifespan="off", ws="none")
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: BoundedHttpProtocol(config, state, {}), "127.0.0.1", 0
    )
    async with server:
        yield server.sockets[0].getsockname()[1]
        for connection in [*state.connections]:
            connection.shutdown()


async def exchange(port: int, *pieces: bytes) -> str:
    """Send pieces, one at a time; return all that is answered until the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        for _ in range(3):  # turns of the loop that the server shares
            await asyncio.sleep(0)
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    return answer.decode()


def get(size: int, more: bytes = b"Connection: close\r\n") -> bytes:
    """Return a request of this size."""
    start = b"GET / HTTP/1.1\r\nHost: x\r\n" + more + b"X-Long: "
    return start + b"a" * (size - len(start) - 4) + b"\r\n\r\n"


def in_pieces(request: bytes, size: int) -> list[bytes]:
    """Cut it."""
    return [request[start : start + size] for start in range(0, len(request), size)]


async def test_a_head_up_to_the_bound_is_taken_in_whatever_pieces_it_comes(port: int) -> None:
    for size in (MOST, 300, 100):
        assert (await exchange(port, *in_pieces(get(MOST), size))).startswith("HTTP/1.1 200")
    # Neither what came before it counts, nor what follows it.
    two = get(900, b"") + get(900)
    for size in (2000, 500):
        assert (await exchange(port, *in_pieces(two, size))).count("HTTP/1.1 200") == 2
    long_body = b"POST / HTTP/1.1\r\nConnection: close\r\nContent-Length: 200000\r\n\r\n"
    assert "200 OK" in await exchange(port, long_body + b"a" * 100_000, b"a" * 100_000)


@pytest.mark.parametrize("size", [10, 600, 10_000_000])
@pytest.mark.parametrize(
    "request_",
    [
        get(MOST + 1),
        get(20 * MOST),
        b"GET /" + b"a" * MOST + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 500 + b"\r\n",
    ],
    ids=["a byte too many", "long header", "long path", "many headers"],
)
async def test_a_larger_head_is_refused_in_whatever_pieces_it_comes(
    port: int, request_: bytes, size: int
) -> None:
    answer = await exchange(port, *in_pieces(request_, size))
    assert answer.startswith("HTTP/1.1 431 ")
    assert answer.count("HTTP/1.1") == 1


@pytest.mark.parametrize("bad", [get(MOST + 100), b"GARBAGE\r\n\r\n"])
async def test_a_refusal_does_not_come_before_an_answer_that_is_owed(port: int, bad: bytes) -> None:
    answer = await exchange(port, get(500, b"") + bad)
    assert answer.startswith("HTTP/1.1 200 ")
    assert answer.count("HTTP/1.1") == 1
    assert "connection: close" in answer


CHUNKED = b"POST / HTTP/1.1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_what_follows_a_chunked_body_is_bounded_and_is_no_header(port: int) -> None:
    answer = await exchange(port, CHUNKED + b"1\r\na\r\n0\r\nAuthorization: Bearer x\r\n\r\n")
    assert answer.startswith("HTTP/1.1 200 ")
    assert "bearer" not in answer.lower()
    pieces = in_pieces(b"a" * 20 * MOST, 600)
    answer = await exchange(port, CHUNKED, b"1\r\na\r\n0\r\nX-Long: ", *pieces)
    assert answer.startswith("HTTP/1.1 431 ")


async def test_a_body_that_breaks_off_in_nonsense_is_refused(
    port: int, told: asyncio.Future[str]
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(CHUNKED + b"1\r\na\r\nnonsense\r\n")
    async with asyncio.timeout(1):  # sooner than the connection ends
        answer = await reader.read()
        assert await told == "ClientDisconnect"
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1
    writer.close()


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ((), []),
        ((b"\r\n",), []),
        ((b"GET / HT",), ["408"]),
        ((get(500)[:-1],), ["408"]),
        ((get(500, b""), b"\r\n"), ["200"]),
        ((get(500, b""), b"G"), ["200", "408"]),
    ],
)
async def test_a_head_that_does_not_come_ends_the_connection(
    port: int, monkeypatch: pytest.MonkeyPatch, pieces: tuple[bytes, ...], expected: list[str]
) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    seen = []
    async with asyncio.timeout(4):  # less than uvicorn's own for a connection that is kept
        for piece in pieces:
            writer.write(piece)
            if piece.endswith(b"\r\n\r\n"):
                seen.append((await reader.readuntil(b"}")).decode())
        seen += [rest.decode()] if (rest := await reader.read()) else []
    assert [answer.split()[1] for answer in seen] == expected
    writer.close()


async def test_an_answer_may_take_longer_than_a_head(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.1)
    body = b"POST / HTTP/1.1\r\nConnection: close\r\nContent-Length: 2\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(body + b"a")
    await asyncio.sleep(0.3)
    writer.write(b"a")
    assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
    writer.close()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_the_server_refuses_is_a_problem_with_an_id_a_metric_and_a_line(
    serve: Serve, workers: str
) -> None:
    service = serve(
        "tests.service.refusing_app:app", WEB_CONCURRENCY=workers, TIDEGATE_DRAIN_DELAY="0.1"
    )
    service.until_ready()
    requests = {
        b"GARBAGE\r\n\r\n": 400,
        b"FOO / HTTP/1.1\r\nHost: x\r\n\r\n": 400,
        b"GET /\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n": 400,
        b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n": 400,
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc": 400,
        b"GET / HTTP/1.1\r\nX-Long: " + b"a" * 6_000_000 + b"\r\n\r\n": 431,
        b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Long: "
        + b"a" * 9_000  # more than the library that reads handshakes takes
        + b"\r\n\r\n": 400,
    }
    ids = {}
    for request, status in requests.items():
        answer = ask(service.url, request)
        head, _, body = answer.partition(b"\r\n\r\n")
        headers = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
        assert headers[b"content-type"] == b"application/problem+json"
        assert headers[b"connection"] == b"close"
        problem = json.loads(body)
        assert (problem["status"], int(head.split()[1])) == (status, status), request[:20]
        ids[headers[b"x-request-id"].decode()] = status
    metrics = httpx.get(f"{service.admin}/metrics", timeout=30).text
    assert 'http_requests_total{handler="none",method="_OTHER",status="4xx"} 7.0' in metrics
    service.process.terminate()
    lines = [json.loads(line) for line in service.stop().splitlines() if line.startswith("{")]
    told = [each for each in lines if each["logger"] == "tidegate.access"]
    assert {each["request_id"]: each["http.response.status_code"] for each in told} == ids


def ask(url: str, request: bytes) -> bytes:
    """Send bytes; return what is answered until the end."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port or 0), timeout=10) as client:
        client.sendall(request)
        answer = b""
        while received := client.recv(65536):
            answer += received
    return answer


async def test_a_websocket_message_that_is_too_large_ends_the_connection_with_1009(
    serve: Serve,
) -> None:
    service = serve("tests.service.apps:ending", TIDEGATE_WS_MAX_SIZE="4096")
    service.until_ready()
    async with websockets.connect(f"{service.url.replace('http', 'ws')}/echo") as websocket:
        await websocket.send("a" * 4096)
        assert len(await websocket.recv()) == 4096
        await websocket.send("a" * 4097)
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await websocket.recv()
    assert closed.value.rcvd
    assert closed.value.rcvd.code == 1009
