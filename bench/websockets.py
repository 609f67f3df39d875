"""Resident memory of the Orders service for each idle WebSocket of its live stream."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from statistics import median

from bench.database import database
from bench.figures import Figures
from bench.orders_service import OrdersService, prepare, seed
from bench.processes import BenchError
from bench.setting import Setting
from tests.cluster.shopping import sign_in

ROUNDS = 3
SOCKETS = 2_000
_WARM_UP = 100
_AT_ONCE = 8
_OFFERS = {
    "idle": "",
    # What browsers send. Compression has buffers of its own for each connection.
    "idle, as browsers": "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
}


def measure(setting: Setting) -> Figures:
    """Open as many as SOCKETS to a fresh process, once a round and for each kind of client."""
    rounds = setting.rounds or ROUNDS
    kilobytes: dict[str, list[float]] = {name: [] for name in _OFFERS}
    setting.progress.plan(rounds * len(_OFFERS))
    with database(setting, away=True) as (url, folder):
        environment = prepare(url, folder) | {"APP_STREAMS_PER_USER": str(SOCKETS)}
        password = seed(environment)
        for number in range(rounds):
            for name in setting.shuffled([*_OFFERS]):
                with setting.progress.step(f"websockets, {name}: {number + 1} of {rounds}"):
                    used = _round(setting, environment, password, _OFFERS[name])
                    kilobytes[name].append(used)
    return {name: {"kB each": median(each)} for name, each in kilobytes.items()}


def _round(setting: Setting, shop: Mapping[str, str], password: str, offer: str) -> float:
    with OrdersService(shop, setting) as service:
        service.until(service.answers)
        token = sign_in(f"http://127.0.0.1:{service.port}", password)
        return asyncio.run(_measure(service, token, offer))


async def _measure(service: OrdersService, token: str, offer: str) -> float:
    port = service.port
    async with AsyncExitStack() as stack:  # what is loaded and cached once counts for nobody
        await _open(stack, _WARM_UP, port, token, offer)
    await asyncio.sleep(1)
    before = service.rss()
    async with AsyncExitStack() as stack:
        readers = await _open(stack, SOCKETS, port, token, offer)
        await asyncio.sleep(1)
        used = (service.rss() - before) * 1024**2 / 1000 / SOCKETS
        closed = sum(reader.at_eof() for reader in readers)
    if closed:  # which takes nothing any more
        raise BenchError(
            f"{closed} of {SOCKETS} WebSockets were closed before they were measured: nobody here "
            "answers pings, so they have 40 s; try again on a machine that is less busy"
        )
    return used


async def _open(
    stack: AsyncExitStack, count: int, port: int, token: str, offer: str
) -> list[asyncio.StreamReader]:
    turn = asyncio.Semaphore(_AT_ONCE)

    async def open_one() -> asyncio.StreamReader:
        async with turn:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
            key = base64.b64encode(os.urandom(16)).decode()
            writer.write(
                f"GET /api/v1/ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
                f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
                f"Sec-WebSocket-Protocol: orders.v1, bearer.{token}\r\n{offer}\r\n".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            first, length = await reader.readexactly(2)
            said = await reader.readexactly(length)
            if b" 101 " not in head or first & 0x0F != 1:  # no text: it is a close
                raise BenchError(f"a WebSocket was refused: {head!r} {said!r}")
            return reader

    async with asyncio.timeout(300):
        return await asyncio.gather(*(open_one() for _ in range(count)))
