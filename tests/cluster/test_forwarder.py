"""The forwarder must not change what passes: bytes, half-closed ends, refusals."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from tests.cluster.controlplane import free_port
from tests.cluster.forwarder import forward


async def _answer_when_all_was_said(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    question = await reader.read()  # until the other side has closed its half
    writer.write(b"heard " + question)
    writer.close()


async def _forwarded(port: int) -> tuple[asyncio.Server, int]:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    return await forward(listener, "127.0.0.1", port), int(listener.getsockname()[1])


def test_bytes_pass_both_ways_after_one_side_has_closed_its_half() -> None:
    question = os.urandom(3_000_000)

    async def talk() -> bytes:
        inner = await asyncio.start_server(_answer_when_all_was_said, "127.0.0.1", 0)
        outer, port = await _forwarded(inner.sockets[0].getsockname()[1])
        async with inner, outer:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(question)
            writer.write_eof()
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            return answer

    assert asyncio.run(talk()) == b"heard " + question


def test_a_port_that_nobody_serves_looks_closed_from_outside_too() -> None:
    async def knock() -> None:
        outer, port = await _forwarded(free_port())
        async with outer:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                await reader.read()
            finally:
                writer.close()

    with pytest.raises(ConnectionResetError):
        asyncio.run(knock())


def test_a_reset_inside_is_a_reset_outside() -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        linger = b"\1\0\0\0\0\0\0\0"
        inner = writer.get_extra_info("socket")
        inner.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    async def talk() -> None:
        inner = await asyncio.start_server(reset, "127.0.0.1", 0)
        outer, port = await _forwarded(inner.sockets[0].getsockname()[1])
        async with inner, outer:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"?")
            try:
                await reader.read()
            finally:
                writer.close()

    with pytest.raises(ConnectionResetError):
        asyncio.run(talk())
