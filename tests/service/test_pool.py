"""A pool that slow readers have emptied: slow for those who need it, and not down."""

from __future__ import annotations

import asyncio
import math
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import httpx
import psycopg
import pytest
from sqlalchemy import NullPool, event, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests.service.conftest import Serve, Service
from tidegate.check_connection import CheckConnections
from tidegate.database import asyncpg_url
from tidegate.pool import PoolState, read_pool

POOL_SIZE = 3


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """An engine whose pool has one connection."""
    engine = create_async_engine(asyncpg_url(database_url), pool_size=1, max_overflow=0)
    yield engine
    await engine.dispose()


def test_slow_readers_that_hold_every_connection_leave_the_pod_ready_and_fast(
    serve: Serve, migrated_url: str, postgres: str
) -> None:
    service = serve(
        "tests.service.pool_app:app", DATABASE_URL=migrated_url, TIDEGATE_CHECK_CACHE="0"
    )
    service.until_ready()
    with slow_readers(service, 2 * POOL_SIZE):
        exhausted = {"size": POOL_SIZE, "in_use": POOL_SIZE, "waiting": POOL_SIZE}
        until(lambda: httpx.get(f"{service.url}/pool").json() == exhausted)
        for _ in range(5):
            # As long as the chart's probes wait.
            ready = httpx.get(f"{service.admin}/health/ready", timeout=3)
            assert (ready.status_code, ready.json()["status"]) == (200, "ok")
            assert httpx.get(f"{service.url}/fast", timeout=1).json() == {"answer": "fast"}
            assert httpx.get(f"{service.admin}/health/live", timeout=3).status_code == 200
        metrics = httpx.get(f"{service.admin}/metrics", timeout=3).text
        assert 'tidegate_schema_verdict{verdict="current"} 1.0' in metrics
        until(lambda: connections(migrated_url) == POOL_SIZE)
        # Readiness still asks the database: one that is away is told from one that is busy.
        with closed_to_new_connections(migrated_url, postgres):
            unready = httpx.get(f"{service.admin}/health/ready", timeout=3)
            assert unready.json()["checks"]["database"]["status"] == "failed"
        service.until_ready()
    empty = {"size": POOL_SIZE, "in_use": 0, "waiting": 0}
    until(lambda: httpx.get(f"{service.url}/pool").json() == empty)


async def test_a_check_takes_a_connection_of_the_pool_while_it_has_one(
    engine: AsyncEngine, database_url: str
) -> None:
    checks = CheckConnections(engine)
    for _ in range(3):
        async with checks.connect() as connection:
            assert await connection.scalar(text("SELECT 1")) == 1
            assert read_pool(engine) == PoolState(1, in_use=1, waiting=0)
    assert connections(database_url) == 1


async def test_checks_on_an_exhausted_pool_share_one_connection_and_close_it(
    engine: AsyncEngine, database_url: str
) -> None:
    checks = CheckConnections(engine)

    async def check() -> int:
        async with checks.connect() as connection:
            await connection.execute(text("SELECT pg_sleep(0.05)"))
            return await asyncio.to_thread(connections, database_url)

    async with engine.connect():
        assert max(await asyncio.gather(*(check() for _ in range(3)))) == 2
        await asyncio.to_thread(until, lambda: connections(database_url) == 1)


async def test_a_check_on_an_exhausted_pool_connects_as_the_service_does(
    database_url: str,
) -> None:
    engine = create_async_engine(
        asyncpg_url(database_url),
        pool_size=1,
        max_overflow=0,
        connect_args={"server_settings": {"search_path": "elsewhere"}},
    )
    greeted: list[object] = []
    event.listen(engine.sync_engine, "connect", lambda opened, _: greeted.append(opened))
    async with engine.connect(), CheckConnections(engine).connect() as connection:
        assert await connection.scalar(text("SHOW search_path")) == "elsewhere"
        assert len(greeted) == 2
    await engine.dispose()


async def test_a_check_that_is_cut_off_leaves_no_connection_and_no_lock_behind(
    engine: AsyncEngine, database_url: str
) -> None:
    checks = CheckConnections(engine)
    async with engine.connect():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), checks.connect() as connection:
                await connection.execute(text("SELECT pg_sleep(30)"))
        async with asyncio.timeout(5), checks.connect() as connection:
            assert await connection.scalar(text("SELECT 1")) == 1
    await asyncio.to_thread(until, lambda: connections(database_url) == 1)


async def test_a_pool_tells_who_holds_and_who_waits(engine: AsyncEngine) -> None:
    assert read_pool(engine) == PoolState(1, in_use=0, waiting=0)
    release = asyncio.Event()

    async def hold() -> None:
        async with engine.connect():
            await release.wait()

    holding = [asyncio.create_task(hold()) for _ in range(3)]
    await asyncio.to_thread(until, lambda: read_pool(engine) == PoolState(1, in_use=1, waiting=2))
    holding.pop().cancel()
    await asyncio.to_thread(until, lambda: read_pool(engine) == PoolState(1, in_use=1, waiting=1))
    release.set()
    await asyncio.gather(*holding)
    assert read_pool(engine) == PoolState(1, in_use=0, waiting=0)


@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        ({"pool_size": 3, "max_overflow": 4}, 7),
        ({"pool_size": 3, "max_overflow": -1}, math.inf),
        ({"pool_size": 0}, math.inf),
    ],
)
async def test_a_pool_says_how_far_it_may_grow(
    arguments: dict[str, int], size: float, database_url: str
) -> None:
    engine = create_async_engine(asyncpg_url(database_url), **arguments)
    async with engine.connect():
        assert read_pool(engine) == PoolState(size, in_use=1, waiting=0)
    await engine.dispose()


async def test_an_engine_without_a_pool_has_nothing_to_tell_and_its_checks_connect(
    database_url: str,
) -> None:
    engine = create_async_engine(asyncpg_url(database_url), poolclass=NullPool)
    assert read_pool(engine) is None
    async with CheckConnections(engine).connect() as connection:
        assert await connection.scalar(text("SELECT 1")) == 1


@contextmanager
def slow_readers(service: Service, number: int) -> Iterator[None]:
    """Keep as many exports in flight; nobody reads them."""
    host, _, port = service.url.removeprefix("http://").partition(":")
    readers: list[socket.socket] = []
    try:
        for _ in range(number):
            reader = socket.socket()
            readers.append(reader)
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect((host, int(port)))
            reader.sendall(b"GET /export.csv HTTP/1.1\r\nHost: export\r\n\r\n")
        yield
    finally:
        for reader in readers:
            reader.close()


@contextmanager
def closed_to_new_connections(database_url: str, postgres: str) -> Iterator[None]:
    """Refuse new connections to the database; those that are open stay."""
    name = database_url.partition("@/")[2].partition("?")[0]
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false".encode())
        yield
        connection.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true".encode())


def connections(database_url: str) -> int:
    """How many connections the database has, this question's aside."""
    with psycopg.connect(database_url) as connection:
        found = connection.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND backend_type = 'client backend'"
        ).fetchone()
    assert found
    return int(found[0])


def until(true: Callable[[], bool]) -> None:
    """Ask until the answer is yes."""
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, "never true"
        time.sleep(0.05)
