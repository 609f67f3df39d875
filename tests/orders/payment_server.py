"""A payment provider that is real HTTP, and can be honest, silent, broken or out of its mind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4


@dataclass(frozen=True)
class Asked:
    """One request that has arrived."""

    path: str
    key: str
    headers: dict[str, str]
    body: dict[str, Any]
    writer: asyncio.StreamWriter


Answer = Callable[["PaymentServer", Asked], Awaitable[bytes | None]]
"""Returns what goes over the wire; ``None`` hangs up without a word."""


@dataclass
class PaymentServer:
    """Set ``answer`` at any time: it is what the next request gets; ``voiding``, a void."""

    url: str = ""
    answer: Answer = field(default=lambda server, asked: authorise(server, asked))
    voiding: Answer = field(default=lambda server, asked: void(server, asked))
    asked: list[Asked] = field(default_factory=list)
    authorised: dict[str, str] = field(default_factory=dict)
    """What was authorised, once for each key: the provider's own ids."""
    voided: list[str] = field(default_factory=list)
    """Which of these were given back."""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def until_asked(self, times: int) -> None:
        """Wait until so many requests have arrived."""
        async with asyncio.timeout(30):
            while len(self.asked) < times:
                self.arrived.clear()
                await self.arrived.wait()


async def authorise(server: PaymentServer, asked: Asked) -> bytes:
    """Authorise once for each key, and say so as often as one asks."""
    reference = server.authorised.setdefault(asked.key, uuid4().hex)
    return as_json(201, said(asked, id=reference))


async def void(server: PaymentServer, asked: Asked) -> bytes:
    """Give back what was authorised, as often as one asks."""
    reference = asked.path.split("/")[-2]
    if reference not in server.voided:
        server.voided.append(reference)
    return http(204, b"", "text/plain")


async def decline(_: PaymentServer, asked: Asked) -> bytes:
    """Say no."""
    return as_json(402, said(asked, status="declined", reason="insufficient funds"))


async def hang(_: PaymentServer, __: Asked) -> bytes:
    """Say nothing, for ever."""
    await asyncio.Event().wait()
    raise AssertionError


async def dribble(server: PaymentServer, asked: Asked) -> bytes:
    """Begin an answer, and send a byte of it now and then, for ever."""
    asked.writer.write(b"HTTP/1.1 201 Created\r\ncontent-length: 100000\r\n\r\n")
    while True:
        asked.writer.write(b" ")
        await asyncio.sleep(0.05)


async def hang_up(_: PaymentServer, __: Asked) -> None:
    """Close the connection."""


async def authorise_but_fail(server: PaymentServer, asked: Asked) -> bytes:
    """Authorise, and lose the answer on the way: what makes a payment unsure."""
    await authorise(server, asked)
    return http(502, b"<html>bad gateway</html>", "text/html")


def saying(raw: bytes) -> Answer:
    """Answer with these very bytes, whatever was asked."""

    async def answer(_: PaymentServer, __: Asked) -> bytes:
        return raw

    return answer


def said(asked: Asked, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """The body of an honest answer, with changes."""
    honest = {
        "id": "auth-1",
        "status": "authorised",
        "order_id": asked.body["order_id"],
        "amount_cents": asked.body["amount_cents"],
    }
    return honest | changes


def as_json(status: int, body: object) -> bytes:
    """An HTTP answer in JSON."""
    return http(status, json.dumps(body).encode(), "application/json")


def http(status: int, body: bytes, kind: str) -> bytes:
    """An HTTP answer."""
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


@asynccontextmanager
async def payment_server() -> AsyncIterator[PaymentServer]:
    """Listen on a loopback port; whatever hangs at the end is cut off."""
    server = PaymentServer()
    talking: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode().split("\r\n")[:-2]
                path = first.split(" ")[1]
                headers = {
                    name.lower(): value for name, value in (line.split(": ", 1) for line in lines)
                }
                body = json.loads(await reader.readexactly(int(headers["content-length"])))
                asked = Asked(path, headers["idempotency-key"], headers, body, writer)
                server.asked.append(asked)
                server.arrived.set()
                answering = server.voiding if path.endswith("/void") else server.answer
                answer = await answering(server, asked)
                if answer is None:
                    return
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(talk(reader, writer))
        talking.add(task)
        task.add_done_callback(talking.discard)

    listener = await asyncio.start_server(accept, "127.0.0.1", 0)
    host, port = listener.sockets[0].getsockname()
    server.url = f"http://{host}:{port}/"
    try:
        yield server
    finally:
        listener.close()
        for task in tuple(talking):
            task.cancel()
        await asyncio.gather(*talking, return_exceptions=True)
