"""Uploads and downloads on real sockets: what is refused early, and who goes away half-way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from sqlalchemy import func, select

from orders.models import File
from tests.orders.conftest import Live, Start, speak_as
from tests.orders.factories import make_user, principal_of
from tests.orders.serving import serving

MIB = 1024 * 1024
HEAD = (
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n'
    b"Content-Type: text/plain\r\n\r\n"
)
TAIL = b"\r\n--x--\r\n"


class Client:
    """A connection, and what HTTP looks like on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def post(self, *headers: str, path: str = "/api/v1/files") -> None:
        told = ["Host: orders", "Content-Type: multipart/form-data; boundary=x", *headers]
        await self.send("\r\n".join([f"POST {path} HTTP/1.1", *told, "", ""]).encode())

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def send_chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%s\r\n" % (len(data), data))

    async def answer(self) -> tuple[int, str]:
        """Read the whole of an answer that has a length: its status, and all its text."""
        async with asyncio.timeout(20):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
            lines = dict(line.lower().split(": ", 1) for line in head.splitlines()[1:] if line)
            body = await self._reader.readexactly(int(lines["content-length"]))
        return int(head.split()[1]), head + body.decode()

    async def at_end(self) -> bool:
        """Whether the server has ended the connection, and said nothing more."""
        async with asyncio.timeout(20):
            return await self._reader.read(1) == b""

    async def leave(self) -> None:
        self._writer.transport.abort()


@pytest.fixture
async def live(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Live:
    monkeypatch.setattr("orders.middleware.unread_body._LINGER", 0.3)  # these wait it out
    live = start(
        files_directory=tmp_path / "files",
        file_bytes=4 * MIB,
        files_bytes=6 * MIB,
        upload_seconds=1,
    )
    async with live.sessions() as session:
        speak_as(live.app, principal_of(await make_user(session)))
    return live


@pytest.fixture
async def client(live: Live) -> AsyncIterator[Client]:
    async with serving(live.app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        yield Client(reader, writer)
        writer.transport.abort()


def files_in(folder: Path) -> Sequence[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def left(live: Live, folder: Path) -> tuple[int, int]:
    """How many files the database knows, and the storage holds."""
    async with live.sessions() as session:
        known = await session.scalar(select(func.count()).select_from(File)) or 0
    return known, len(files_in(folder))


async def until(done: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await done():  # noqa: ASYNC110 - a folder sets no event
            await asyncio.sleep(0.01)


async def until_nothing_is_left(live: Live, folder: Path) -> None:
    async def nothing() -> bool:
        return await left(live, folder) == (0, 0)

    await until(nothing)


async def test_a_length_that_is_too_large_is_refused_before_a_byte_comes(client: Client) -> None:
    await client.post(f"Content-Length: {10**12}", "Expect: 100-continue")
    status, text = await client.answer()
    assert (status, "100 continue" in text.lower()) == (413, False)
    assert "connection: close" in text.lower()
    assert await client.at_end()


@pytest.mark.parametrize(
    ("headers", "chunked"),
    [(["Transfer-Encoding: chunked"], True), (["Content-Length: 4195000"], False)],
)
async def test_a_stream_that_is_too_large_is_refused_in_the_middle(
    client: Client, live: Live, tmp_path: Path, headers: list[str], chunked: bool
) -> None:
    send = client.send_chunk if chunked else client.send
    await client.post(*headers)
    await send(HEAD)
    for _ in range(4):
        await send(b"a" * MIB)
    await send(b"a" * 300)  # one of them is too many, and the body is not over
    status, text = await client.answer()
    assert status == 413
    assert "application/problem+json" in text
    assert "connection: close" in text.lower()
    assert await client.at_end()
    await until_nothing_is_left(live, tmp_path)


async def test_a_client_that_only_sends_gets_its_answer_all_the_same(
    client: Client, tmp_path: Path
) -> None:
    await client.post("Transfer-Encoding: chunked")
    await client.send_chunk(HEAD)
    for _ in range(12):  # three times what is taken; it does not look up before it is done
        await client.send_chunk(b"a" * MIB)
    assert (await client.answer())[0] == 413


async def test_files_that_are_too_large_together_are_refused(
    client: Client, live: Live, tmp_path: Path
) -> None:
    await client.post("Transfer-Encoding: chunked", path="/api/v1/files/batch")
    for _ in range(2):
        await client.send_chunk(HEAD.replace(b'"file"', b'"files"') + b"a" * 3 * MIB + b"\r\n")
    await client.send_chunk(HEAD.replace(b'"file"', b'"files"') + b"a" * MIB)
    assert (await client.answer())[0] == 413
    await until_nothing_is_left(live, tmp_path)


async def test_a_type_that_is_not_taken_is_refused_as_soon_as_it_is_seen(client: Client) -> None:
    await client.post("Content-Length: 4000000")
    await client.send(HEAD + b"\x7fELF\x02\x01\x01" + bytes(100))
    status, text = await client.answer()
    assert (status, "connection: close" in text.lower()) == (415, True)


async def test_a_client_that_goes_half_way_leaves_nothing(
    client: Client, live: Live, tmp_path: Path
) -> None:
    await client.post("Content-Length: 4000000")
    await client.send(HEAD + b"a" * MIB)

    async def has_begun() -> bool:
        return bool(files_in(tmp_path))

    await until(has_begun)
    await client.leave()
    await until_nothing_is_left(live, tmp_path)


async def test_an_upload_that_does_not_end_is_ended(
    client: Client, live: Live, tmp_path: Path
) -> None:
    await client.post("Content-Length: 4000000")
    await client.send(HEAD + b"a" * 1000)
    status, text = await client.answer()
    assert (status, "within 1 s" in text) == (408, True)
    await until_nothing_is_left(live, tmp_path)


async def test_the_connection_goes_on_where_the_body_was_read(client: Client) -> None:
    for content, expected in ((b"a" * MIB, 201), (b"\0" * 5, 415), (b"b", 201)):
        body = HEAD + content + TAIL
        await client.post(f"Content-Length: {len(body)}")
        await client.send(body)
        assert (await client.answer())[0] == expected
