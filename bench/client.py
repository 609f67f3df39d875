"""An HTTP client as small as the measurements allow: it must cost less than what it measures."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from bench.processes import BenchError

HEADERS = {
    "Host": "orders.example.com",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/142.0 Safari/537.36",
    "Accept": "application/json, text/plain, */*",
    "Accept-Language": "en-GB,en;q=0.9",
    "Accept-Encoding": "gzip, deflate, br",
    "Cache-Control": "no-cache",
    "X-Forwarded-For": "203.0.113.7",
    "X-Forwarded-Proto": "https",
    "Referer": "https://orders.example.com/checkout",
}
"""What a browser behind an ingress sends; every measurement sends the same."""


@dataclass(frozen=True)
class Answer:
    """The part of a response that is looked at."""

    status: int
    closes: bool
    """The server asks to take the next request elsewhere."""


class CutError(ConnectionError):
    """The connection ended in the middle of an answer."""


class Connection:
    """One keep-alive connection to a port of this machine."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Connection:
        """Connect; raises :class:`ConnectionRefusedError` where nobody listens."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, request: bytes) -> Answer:
        """Send one request and read all of its answer.

        Raises:
            ConnectionError: no answer came.
            CutError: an answer began and did not end.
        """
        self._writer.write(request)
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise CutError from None
            raise ConnectionResetError from None
        fields = head.lower().split(b"\r\n")
        length = next(int(f[15:]) for f in fields if f.startswith(b"content-length:"))
        try:
            await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise CutError from None
        return Answer(int(head[9:12]), b"connection: close" in fields)

    def close(self) -> None:
        """Close without waiting for the other side."""
        self._writer.close()


def request(order: int = 42, **headers: str) -> bytes:
    """The bytes of one request; ``headers`` have underscores for hyphens."""
    sent = HEADERS | {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    return f"GET /api/v1/orders/{order} HTTP/1.1\r\n{lines}\r\n".encode()


async def load(port: int, requests: int, connections: int = 16) -> None:
    """Send so many requests over so many connections, as fast as they are answered.

    Raises:
        BenchError: the server refused a connection or ended one.
    """
    left = iter(range(requests))

    async def client() -> None:
        connection = await Connection.open(port)
        for _ in left:
            await connection.ask(request())
        connection.close()

    try:
        async with asyncio.TaskGroup() as clients:
            for _ in range(connections):
                clients.create_task(client())
    except* OSError as errors:
        raise BenchError(
            f"the server on port {port} dropped requests under load ({errors.exceptions[0]!r}); "
            "look at what it prints"
        ) from None
