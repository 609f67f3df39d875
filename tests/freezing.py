"""A way to a database that can be frozen: connections stay open, and nothing goes through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit


class Way:
    """Leads to a database, by a port of its own."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.5432"
        self._database = parts.path
        self._open = asyncio.Event()
        self._open.set()
        self._passing: set[asyncio.Task[None]] = set()
        self.url = ""

    def freeze(self) -> None:
        """Let nothing through, not even the end of a connection."""
        self._open.clear()

    def thaw(self) -> None:
        """Let all through, also what came meanwhile."""
        self._open.set()

    @asynccontextmanager
    async def leading(self) -> AsyncIterator[Way]:
        """Lead there while the block runs."""
        server = await asyncio.start_server(self._enter, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        self.url = f"postgresql://postgres@127.0.0.1:{port}{self._database}"
        try:
            yield self
        finally:
            server.close()
            for each in self._passing:
                each.cancel()
            await asyncio.gather(*self._passing, return_exceptions=True)

    def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._pass(reader, writer))
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._open.wait()
        back, forth = await asyncio.open_unix_connection(self._socket)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, forth))
                both.create_task(self._pump(back, writer))
        except* OSError:
            pass  # one end has gone
        finally:
            forth.close()
            writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(64 * 1024):
            await self._open.wait()
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError
