"""A process that does nothing but live: `python -m tests.migrate.beating MANIFEST EVERY MINUTE`.

It beats as a service does, on the database of DATABASE_URL, until SIGTERM. Its minute may last
less than 60 seconds.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from sqlalchemy.ext.asyncio import create_async_engine

from tidegate import heartbeat
from tidegate.check_connection import CheckConnections
from tidegate.database import asyncpg_url
from tidegate.heartbeat import Heartbeat
from tidegate.verdict import read_manifest


async def live(manifest: Path) -> None:
    """Beat until told to stop."""
    engine = create_async_engine(asyncpg_url(os.environ["DATABASE_URL"]))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)

    async def look() -> None:
        """Judge no schema."""

    async with Heartbeat(CheckConnections(engine), read_manifest(manifest), look).beating():
        await stop.wait()
    await engine.dispose()


if __name__ == "__main__":
    for constant, value in zip(("EVERY", "GONE_AFTER"), sys.argv[2:], strict=True):
        setattr(heartbeat, constant, float(value))
    asyncio.run(live(Path(sys.argv[1])))
