"""Each service process tells the database that it runs, and which revisions it ships."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests.pgbouncer import Pgbouncer
from tests.service.conftest import Serve
from tests.service.test_pool import connections, until
from tidegate import heartbeat
from tidegate.check_connection import CheckConnections
from tidegate.database import asyncpg_url
from tidegate.heartbeat import Heartbeat
from tidegate.schema import Manifest, Revision
from tidegate_migrate import instances
from tidegate_migrate.instances import Instance
from tidegate_migrate.place import Place

APP = "tests.service.beating_app:app"
PUBLIC = Place("public")
SHIPPED = Manifest.of([Revision("1")])
ODD = Manifest.of([Revision("o'1"), Revision("a\\b$c")])


@pytest.fixture
def witnessed_url(migrated_url: str) -> str:
    """The reference service's database, with the table that the runner makes."""
    make_table(migrated_url)
    return migrated_url


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """An engine whose pool has one connection, on a database with the table alone."""
    make_table(database_url)
    engine = create_async_engine(asyncpg_url(database_url), pool_size=1, max_overflow=0)
    yield engine
    await engine.dispose()


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beat twenty times a second."""
    monkeypatch.setattr(heartbeat, "EVERY", 0.05)
    monkeypatch.setattr(heartbeat, "_AGAIN", 0.05)


def test_a_service_says_what_it_ships_while_it_runs_and_says_goodbye(
    serve: Serve, witnessed_url: str, manifest: Path
) -> None:
    service = serve(
        APP, DATABASE_URL=witnessed_url, TIDEGATE_IMAGE="shop:1", TIDEGATE_DRAIN_DELAY="2"
    )
    service.until_ready()
    until(lambda: bool(seen(witnessed_url)))
    (first,) = seen(witnessed_url)
    assert first.heads == Manifest.from_json(manifest.read_text()).heads
    assert (first.image, first.seen) == ("shop:1", True)
    assert f"/{service.process.pid}/" in first.name
    began = last_seen(witnessed_url)
    until(lambda: last_seen(witnessed_url) > began)
    service.process.send_signal(signal.SIGTERM)
    service.until(lambda answer: answer.status_code == 503)
    assert seen(witnessed_url), "it still answers: it still runs"
    assert "heartbeat" not in service.stop()
    assert not seen(witnessed_url)


def test_services_beat_through_pgbouncer_in_transaction_mode_however_their_driver_is_set_up(
    serve: Serve, witnessed_url: str, pgbouncer: Pgbouncer
) -> None:
    pooler = pgbouncer("transaction")
    # As they are, the two would not do: asyncpg gives the statements of both the same names.
    services = [serve(APP, DATABASE_URL=pooler) for _ in range(2)]
    until(lambda: len(seen(witnessed_url)) == 2)
    for _ in range(10):
        before = first_seen(witnessed_url)
        until(lambda before=before: first_seen(witnessed_url) > before)  # type: ignore[misc]
    for service in services:
        service.process.terminate()
        service.stop()
    assert not seen(witnessed_url)


def test_a_service_without_the_table_waits_for_it_and_does_not_complain(
    serve: Serve, migrated_url: str
) -> None:
    drop_table(migrated_url)
    service = serve(APP, DATABASE_URL=migrated_url)
    service.until_ready()
    make_table(migrated_url)
    until(lambda: bool(seen(migrated_url)))
    service.process.terminate()
    output = service.stop()
    assert "heartbeat" not in output
    assert '"level":"error"' not in output


def test_a_heartbeat_that_fails_is_told_once_and_stops_nothing(
    serve: Serve, witnessed_url: str
) -> None:
    # A sequence counts on though its transaction is rolled back.
    execute(witnessed_url, "CREATE SEQUENCE tries")
    execute(
        witnessed_url,
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM nextval('tries'); RAISE 'no'; END $$",
    )
    execute(
        witnessed_url,
        "CREATE TRIGGER fail BEFORE INSERT ON tidegate_instances EXECUTE FUNCTION fail()",
    )
    service = serve(APP, DATABASE_URL=witnessed_url)
    service.until_ready()
    until(lambda: query(witnessed_url, "SELECT last_value FROM tries") > 5)
    service.until_ready()
    execute(witnessed_url, "DROP TRIGGER fail ON tidegate_instances")
    until(lambda: bool(seen(witnessed_url)))
    service.process.terminate()
    assert service.stop().count("the heartbeat cannot be written (RaiseError)") == 1


def test_a_process_that_wakes_up_on_a_schema_that_breaks_it_says_so_and_serves_on(
    serve: Serve, witnessed_url: str, manifest: Path
) -> None:
    (head,) = Manifest.from_json(manifest.read_text()).heads
    service = serve(APP, DATABASE_URL=witnessed_url)
    service.until_ready()
    until(lambda: bool(seen(witnessed_url)))
    service.process.send_signal(signal.SIGSTOP)
    with psycopg.connect(witnessed_url) as connection:
        connection.execute(
            "INSERT INTO tidegate_schema_history "
            "(revision, phase, down, applied_at, duration_seconds, image, checksum) "
            "VALUES ('next', 'contract', ARRAY[%s], now(), 0, 'shop:2', '')",
            [head],
        )
    execute(witnessed_url, "UPDATE alembic_version SET version_num = 'next'")
    service.process.send_signal(signal.SIGCONT)
    gone_wrong = 'tidegate_schema_verdict{verdict="ahead-incompatible"} 1.0'
    until(lambda: gone_wrong in httpx.get(f"{service.admin}/metrics", timeout=5).text)
    service.until_ready()
    service.process.terminate()
    output = service.stop()
    assert output.count("and this serves on: ahead-incompatible") == 1


@pytest.mark.usefixtures("fast")
async def test_a_pool_without_a_free_connection_is_neither_waited_for_nor_drained_further(
    engine: AsyncEngine, database_url: str
) -> None:
    async with engine.connect() as held:
        await held.get_raw_connection()
        async with Heartbeat(CheckConnections(engine), SHIPPED, nothing).beating():
            await asyncio.to_thread(until, lambda: bool(seen(database_url)))
            began = last_seen(database_url)
            await asyncio.to_thread(until, lambda: last_seen(database_url) > began)
        assert not seen(database_url)
        await asyncio.to_thread(until, lambda: connections(database_url) == 1)


@pytest.mark.usefixtures("fast")
async def test_a_beat_that_is_stuck_is_given_up_and_leaves_the_pool_whole(
    engine: AsyncEngine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "_WITHIN", 0.2)
    with psycopg.connect(database_url) as locking:
        locking.execute("LOCK TABLE tidegate_instances")
        async with Heartbeat(CheckConnections(engine), SHIPPED, nothing).beating():
            await asyncio.to_thread(until, lambda: waits_for_the_lock(database_url))
            await asyncio.to_thread(until, lambda: not waits_for_the_lock(database_url))
            locking.rollback()
            await asyncio.to_thread(until, lambda: bool(seen(database_url)))


@pytest.mark.usefixtures("fast")
async def test_a_connection_that_the_server_has_cut_is_not_used_again(
    engine: AsyncEngine, database_url: str
) -> None:
    async with Heartbeat(CheckConnections(engine), SHIPPED, nothing).beating():
        await asyncio.to_thread(until, lambda: bool(seen(database_url)))
        execute(
            database_url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
            "datname = current_database() AND pid <> pg_backend_pid()",
        )
        cut = last_seen(database_url)
        await asyncio.to_thread(until, lambda: last_seen(database_url) > cut)


@pytest.mark.usefixtures("fast")
async def test_a_role_that_owns_nothing_here_may_keep_its_row(
    engine: AsyncEngine, database_url: str
) -> None:
    role = f"service_{uuid4().hex[:8]}"
    execute(database_url, f"CREATE ROLE {role} LOGIN")
    service = create_async_engine(asyncpg_url(database_url).set(username=role))
    try:
        async with Heartbeat(CheckConnections(service), ODD, nothing).beating():
            await asyncio.to_thread(until, lambda: bool(seen(database_url)))
            assert seen(database_url)[0].heads == ODD.heads
        assert not seen(database_url)
    finally:
        await service.dispose()
        execute(database_url, f"DROP ROLE {role}")


@pytest.mark.usefixtures("fast", "engine")
async def test_it_beats_with_psycopg_too(database_url: str) -> None:
    url = asyncpg_url(database_url).set(drivername="postgresql+psycopg")
    engine = create_async_engine(url, pool_size=1, max_overflow=0)
    async with Heartbeat(CheckConnections(engine), SHIPPED, nothing).beating():
        await asyncio.to_thread(until, lambda: bool(seen(database_url)))
        began = last_seen(database_url)
        await asyncio.to_thread(until, lambda: last_seen(database_url) > began)
    assert not seen(database_url)
    await engine.dispose()


@pytest.mark.usefixtures("fast")
async def test_the_row_lies_beside_the_version_table_of_the_project(
    engine: AsyncEngine, database_url: str
) -> None:
    place = Place("Shop's", "versions")
    execute(database_url, 'CREATE SCHEMA "Shop\'s"')
    with psycopg.connect(database_url, autocommit=True) as connection:
        instances.ensure(connection, place)
    shipped = replace(SHIPPED, version_table=str(place))
    async with Heartbeat(CheckConnections(engine), shipped, nothing).beating():
        await asyncio.to_thread(until, lambda: bool(seen(database_url, place)))
    assert not seen(database_url)


async def nothing() -> None:
    """Judge no schema."""


def seen(url: str, place: Place = PUBLIC) -> tuple[Instance, ...]:
    """Who runs, as the runner sees it."""
    with psycopg.connect(url) as connection:
        return instances.read(connection, place)


def last_seen(url: str) -> Any:  # noqa: ANN401 - compared only
    """When the last row was written."""
    return query(url, "SELECT max(seen_at) FROM tidegate_instances")


def first_seen(url: str) -> Any:  # noqa: ANN401 - compared only
    """When the row that is the longest without a beat was written."""
    return query(url, "SELECT min(seen_at) FROM tidegate_instances")


def waits_for_the_lock(url: str) -> bool:
    """Whether a beat stands behind a lock."""
    return bool(query(url, "SELECT count(*) FROM pg_locks WHERE NOT granted"))


def make_table(url: str) -> None:
    """What the runner does before it applies a revision."""
    with psycopg.connect(url, autocommit=True) as connection:
        instances.ensure(connection, PUBLIC)


def drop_table(url: str) -> None:
    """As before the first run of a runner that knows of the table."""
    execute(url, "DROP TABLE IF EXISTS tidegate_instances")


def execute(url: str, sql: str) -> None:
    """Run a statement."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.encode())


def query(url: str, sql: str) -> Any:  # noqa: ANN401 - one value
    """Ask for one value."""
    with psycopg.connect(url) as connection:
        row = connection.execute(sql.encode()).fetchone()
    return row and row[0]
