"""A TCP forwarder from 127.0.0.1 of the machine into the node's network namespace.

A socket belongs to the namespace it was made in. So whoever starts the node binds the listening
sockets outside and hands them down; this process, inside, accepts on them and connects to its
own side. No address of the node has to exist outside, and the forwarder dies with the node.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections.abc import Sequence

CHUNK = 256 * 1024


async def forward(listener: socket.socket, host: str, port: int) -> asyncio.Server:
    """Accept on `listener` and pass every connection on to host:port."""

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_connection(host, port, limit=CHUNK)
        except OSError:
            # As the closed port itself would have answered.
            _reset(writer)
            return
        await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))
        inner_writer.close()
        writer.close()

    return await asyncio.start_server(accepted, sock=listener, limit=CHUNK, backlog=1024)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy one direction; its end is passed on while the other direction goes on."""
    try:
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        # A reset on one side is a reset for both, and ends the other direction too.
        _reset(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    # Lingering for no time makes closing send a reset instead of an orderly end.
    inner = writer.get_extra_info("socket")
    inner.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _serve(routes: Sequence[str]) -> None:
    servers = []
    for route in routes:
        descriptor, host, port = route.split(":")
        listener = socket.socket(fileno=int(descriptor))
        listener.setblocking(False)
        servers.append(await forward(listener, host, int(port)))
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    # Each argument: the number of an inherited listening socket, and where it leads.
    asyncio.run(_serve(sys.argv[1:]))
