"""A WebSocket connection that is told to end."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextlib import suppress
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect
from uvicorn.server import ServerState
from websockets.asyncio.client import connect

from tidegate.hook import Hook
from tidegate.lifecycle import Lifecycle
from tidegate.routes import RouteTemplates
from tidegate.websocket_protocol import LeanWebSocketProtocol
from tidegate.websockets import WebSockets, hand_over

GOODBYE = {"code": 1012, "reason": "the server restarts; connect again"}
SCOPE = {"type": "websocket", "path": "/", "headers": []}


class Client:
    """The server's side of one client: what it sends is queued, what it gets is kept."""

    def __init__(self, *texts: str) -> None:
        self.got: list[Message] = []
        self.says: asyncio.Queue[Message] = asyncio.Queue()
        self.says.put_nowait({"type": "websocket.connect"})
        for text in texts:
            self.says.put_nowait({"type": "websocket.receive", "text": text})

    async def send(self, message: Message) -> None:
        self.got.append(message)


async def run(websockets: WebSockets, app: Any, client: Client) -> None:  # noqa: ANN401
    async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
        await app(WebSocket(scope, receive, send))

    scope = dict(SCOPE)
    async with websockets.connection(scope, client.says.get, client.send) as connection:
        await asgi(scope, connection.receive, connection.send)


def hook_around(app: ASGIApp) -> Hook:
    return Hook(app, routes=RouteTemplates(FastAPI()), lifecycle=Lifecycle())


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    while True:
        await websocket.send_text(await websocket.receive_text())


async def until_quiet() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_pending_receive_hears_the_goodbye_and_the_client_gets_1012() -> None:
    websockets, client = WebSockets(), Client("hello")
    running = asyncio.create_task(run(websockets, echo, client))
    await until_quiet()
    assert len(websockets) == 1
    websockets.say_goodbye()
    await running
    assert client.got[1:] == [
        {"type": "websocket.send", "text": "hello"},
        {"type": "websocket.close", **GOODBYE},
    ]
    assert len(websockets) == 0


async def test_a_connection_that_opens_after_the_goodbye_hears_it_at_once() -> None:
    websockets, client = WebSockets(), Client("hello")
    websockets.say_goodbye()
    await run(websockets, echo, client)
    assert [each["type"] for each in client.got] == ["websocket.accept", "websocket.close"]


async def test_an_application_that_closes_by_itself_has_the_last_word() -> None:
    async def closes(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            await websocket.receive()
        finally:
            await websocket.close(4000, "my own")

    websockets, client = WebSockets(), Client()
    running = asyncio.create_task(run(websockets, closes, client))
    await until_quiet()
    websockets.say_goodbye()
    await running
    assert client.got[1:] == [{"type": "websocket.close", "code": 4000, "reason": "my own"}]


async def test_an_application_that_fails_at_the_end_is_closed_and_its_error_is_not_hidden() -> None:
    async def fails(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive()
        raise ValueError("a bug")

    websockets, client = WebSockets(), Client()
    running = asyncio.create_task(run(websockets, fails, client))
    await until_quiet()
    websockets.say_goodbye()
    with pytest.raises(ValueError, match="a bug"):
        await running
    assert client.got[-1] == {"type": "websocket.close", **GOODBYE}
    assert len(websockets) == 0


async def test_without_a_goodbye_nothing_is_changed() -> None:
    websockets, client = WebSockets(), Client("hello")
    client.says.put_nowait({"type": "websocket.disconnect", "code": 1001, "reason": "gone"})
    with pytest.raises(WebSocketDisconnect) as end:
        await run(websockets, echo, client)
    assert end.value.code == 1001
    assert [each["type"] for each in client.got] == ["websocket.accept", "websocket.send"]


async def test_the_applications_own_time_limits_and_cancellation_still_work() -> None:
    seen: list[str] = []
    timed_out = asyncio.Event()

    async def waits(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            async with asyncio.timeout(0.01):
                await websocket.receive()
        except TimeoutError:
            timed_out.set()
        async with asyncio.timeout(60):
            message = await websocket.receive()
        seen.append(f"{message['code']}")
        await asyncio.sleep(0)  # would raise if a cancellation were left over

    websockets, client = WebSockets(), Client()
    running = asyncio.create_task(run(websockets, waits, client))
    await timed_out.wait()
    await until_quiet()
    websockets.say_goodbye()
    await running
    assert seen == ["1012"]


async def test_a_cancellation_by_somebody_else_is_not_taken_for_the_goodbye() -> None:
    websockets, client = WebSockets(), Client()
    running = asyncio.create_task(run(websockets, echo, client))
    await until_quiet()
    websockets.say_goodbye()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_receiver_in_a_task_of_its_own_hears_the_goodbye() -> None:
    async def pumps(websocket: WebSocket) -> None:
        await websocket.accept()
        async with asyncio.TaskGroup() as group:
            message = group.create_task(websocket.receive())
        await websocket.send_text(f"{message.result()['code']}")

    websockets, client = WebSockets(), Client()
    running = asyncio.create_task(run(websockets, pumps, client))
    await until_quiet()
    websockets.say_goodbye()
    await running
    assert client.got[1] == {"type": "websocket.send", "text": "1012"}


async def test_what_is_handed_over_keeps_nothing_of_the_handshake_and_has_its_say() -> None:
    lived: list[weakref.ref[WebSocket]] = []
    seen: list[Any] = []

    async def lets_go(websocket: WebSocket) -> None:
        lived.append(weakref.ref(websocket))
        await websocket.accept()
        hand_over(websocket.scope, rest)

    async def around(scope: Scope, receive: Receive, send: Send) -> None:
        await lets_go(WebSocket(scope, receive, send))
        seen.append("the endpoint has returned")

    async def rest(receive: Receive, send: Send) -> None:
        gc.collect()
        seen.append(lived[0]())
        seen.append((await receive())["text"])
        seen.append(await receive())
        await send({"type": "websocket.send", "text": "so long"})

    hook, client = hook_around(around), Client("hello")
    headers = [(b"authorization", b"Bearer secret")]
    scope: Scope = {**SCOPE, "headers": headers, "root_path": "", "endpoint": rest}
    running = asyncio.ensure_future(hook(scope, client.says.get, client.send))
    await until_quiet()
    assert scope == {}
    assert len(hook.lifecycle.websockets) == 1
    hook.lifecycle.end()
    await running
    goodbye = {"type": "websocket.disconnect", **GOODBYE}
    assert seen == ["the endpoint has returned", None, "hello", goodbye]
    assert client.got[1:] == [
        {"type": "websocket.send", "text": "so long"},
        {"type": "websocket.close", **GOODBYE},
    ]
    assert len(hook.lifecycle.websockets) == 0


async def test_only_an_open_connection_of_tidegates_can_be_handed_over() -> None:
    async def rest(receive: Receive, send: Send) -> None: ...

    async def too_early(websocket: WebSocket) -> None:
        with pytest.raises(RuntimeError, match="accept it first"):
            hand_over(websocket.scope, rest)
        await websocket.accept()

    await run(WebSockets(), too_early, Client())
    with pytest.raises(RuntimeError, match=r"Tidegate\(app\)"):
        hand_over(SCOPE, rest)


async def test_a_connection_of_ours_holds_no_headers_once_it_is_open() -> None:
    async def echo_asgi(scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(WebSocketDisconnect):
            await echo(WebSocket(scope, receive, send))

    config = uvicorn.Config(echo_asgi, lifespan="off", log_config=None, ws=LeanWebSocketProtocol)
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: LeanWebSocketProtocol(config, state, {}), "127.0.0.1", 0
    )
    port = server.sockets[0].getsockname()[1]
    async with connect(f"ws://127.0.0.1:{port}", proxy=None) as client:
        await client.send("hello")
        assert await client.recv() == "hello"
        (held,) = state.connections
        assert isinstance(held, LeanWebSocketProtocol)
        assert len(held.request.headers) == len(held.response.headers) == 0
    server.close()
    await server.wait_closed()
