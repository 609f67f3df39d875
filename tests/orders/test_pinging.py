"""Connections that died meanwhile, and sessions that only read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from orders.core import pinging
from orders.core.database import create_engine, create_readers, create_sessions, transaction
from tests.orders.conftest import settings_of


@pytest.fixture
async def engine(own_url: str) -> AsyncIterator[AsyncEngine]:
    """The service's engine, with one connection at most."""
    engine = create_engine(settings_of(own_url, database_pool_size=1))
    yield engine
    await engine.dispose()


@pytest.fixture
def pings(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What each ping has found."""
    dialect = engine.sync_engine.dialect
    ping: Callable[..., bool] = dialect.do_ping
    found: list[bool] = []

    def note(connection: object) -> bool:
        found.append(False)
        found[-1] = ping(connection)
        return found[-1]

    monkeypatch.setattr(dialect, "do_ping", note)
    return found


async def ask(engine: AsyncEngine) -> int:
    """The process that answers at the other end."""
    async with create_readers(engine)() as session:
        return int(await session.scalar(text("SELECT pg_backend_pid()")) or 0)


def end(own_url: str, pid: int) -> None:
    with psycopg.connect(own_url, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


async def test_a_connection_that_was_in_use_a_moment_ago_is_not_asked(
    engine: AsyncEngine, pings: list[bool]
) -> None:
    assert await ask(engine) == await ask(engine)
    assert pings == []


async def test_an_idle_connection_is_asked_and_kept_when_it_lives(
    engine: AsyncEngine, pings: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pinging, "IDLE", 0.0)
    assert await ask(engine) == await ask(engine)
    assert pings == [True]


async def test_a_connection_that_the_server_has_closed_costs_no_request(
    engine: AsyncEngine, own_url: str, pings: list[bool]
) -> None:
    first = await ask(engine)
    end(own_url, first)
    await asyncio.sleep(0.1)  # in which the loop reads that it was closed
    assert await ask(engine) != first
    assert pings == []


async def test_an_idle_connection_that_died_unseen_costs_no_request(
    engine: AsyncEngine, own_url: str, pings: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pinging, "IDLE", 0.0)
    first = await ask(engine)
    end(own_url, first)  # and the loop had no turn since
    assert await ask(engine) != first
    assert pings == [False]


async def test_what_only_reads_opens_no_transaction(engine: AsyncEngine) -> None:
    moment = text("SELECT now()")  # of the transaction's beginning
    async with create_readers(engine)() as reader:
        assert await reader.scalar(moment) != await reader.scalar(moment)
        with pytest.raises(RuntimeError, match="only reads"):
            async with transaction(reader):
                pass
    async with create_sessions(engine)() as writer:
        assert await writer.scalar(moment) == await writer.scalar(moment)
