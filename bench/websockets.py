"""Resident memory of the Orders service for each idle WebSocket of its live stream."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from statistics import median

from bench.database import database
from bench.figures import Figures
from bench.processes import ROOT, BenchError, Child, answers, free_ports, row_environment
from bench.rows import FULL, chosen
from bench.setting import Setting
from tests.cluster.shopping import ADMIN, sign_in

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
    with database(setting, away=True) as (url, _):
        environment = {
            "DATABASE_URL": url,
            "ALEMBIC_CONFIG": str(ROOT / "migrations-job" / "orders" / "alembic.ini"),
            "APP_JWT_SECRET": secrets.token_hex(32),
            "APP_STREAMS_PER_USER": str(SOCKETS),
        }
        _run(["tidegate.cli", "migrate", "up"], environment)
        password = _run(["orders", "seed", "--admin", ADMIN], environment).strip()
        for number in range(rounds):
            for name in setting.dice.sample(list(_OFFERS), len(_OFFERS)):
                with setting.progress.step(f"websockets, {name}: {number + 1} of {rounds}"):
                    used = _round(setting, environment, password, _OFFERS[name])
                    kilobytes[name].append(used)
    return {name: {"kB each": median(each)} for name, each in kilobytes.items()}


def _round(setting: Setting, shop: Mapping[str, str], password: str, offer: str) -> float:
    (full,) = (row for row in chosen([FULL]) if row.name == FULL)
    port, admin = free_ports(2)
    environment = (
        dict(shop)
        | row_environment(full, setting.sink.url)
        | {
            "TIDEGATE_HOST": "127.0.0.1",
            "TIDEGATE_PORT": str(port),
            "TIDEGATE_ADMIN_PORT": str(admin),
        }
    )
    command = [sys.executable, "-m", "tidegate.cli", "serve", "orders.main:app"]
    with Child("orders", command, environment, setting.server_core) as child:
        child.until(lambda: answers(port, with_any=True))
        token = sign_in(f"http://127.0.0.1:{port}", password)
        return asyncio.run(_measure(child, port, token, offer))


async def _measure(child: Child, port: int, token: str, offer: str) -> float:
    async with AsyncExitStack() as stack:  # what is loaded and cached once counts for nobody
        await _open(stack, _WARM_UP, port, token, offer)
    await asyncio.sleep(1)
    before = child.rss()
    async with AsyncExitStack() as stack:
        await _open(stack, SOCKETS, port, token, offer)
        await asyncio.sleep(1)
        return (child.rss() - before) * 1024**2 / 1000 / SOCKETS


async def _open(stack: AsyncExitStack, count: int, port: int, token: str, offer: str) -> None:
    turn = asyncio.Semaphore(_AT_ONCE)

    async def open_one() -> None:
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

    async with asyncio.timeout(300):
        await asyncio.gather(*(open_one() for _ in range(count)))


def _run(command: list[str], environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BenchError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout
