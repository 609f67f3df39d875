"""The queue: what is ordered is done, sooner or later, and somebody hears of what is not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psycopg
import pytest
from alembic import command
from alembic.config import Config
from hypothesis import given
from hypothesis import strategies as st
from pgqueuer.queries import Queries
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from orders.api.deps import optional_user
from orders.core.access import Role
from orders.core.database import transaction
from orders.core.direct import connect_arguments
from orders.repositories import tasks as repository
from orders.tasks.housekeeping import show
from orders.tasks.queue import enqueue
from orders.tasks.retry import Retry
from orders.tasks.task import NotYetError, Resources, Task
from tests.orders.conftest import Live, SignIn, Start, settings_of
from tests.orders.databases import migrate
from tests.orders.factories import make_user, principal_of
from tests.orders.workers import working
from tests.pgbouncer import Pgbouncer
from tidegate import current_request

SOON = Retry(timedelta(milliseconds=1), timedelta(milliseconds=1), attempts=3)
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class Arguments(BaseModel):
    word: str


class Anything(BaseModel):
    """What other tasks are told."""


@pytest.fixture(autouse=True)
def no_time_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker looks by itself ever so often, and a test need not wait for that."""
    monkeypatch.setattr("orders.tasks.runner._LOOK_EVERY", timedelta(seconds=0.05))


def task_of(
    run: Callable[[str], Awaitable[None]],
    retry: Retry = SOON,
    **more: Any,  # noqa: ANN401
) -> Task[Arguments]:
    async def taking_arguments(_: Resources, arguments: Arguments) -> None:
        await run(arguments.word)

    return Task("say", Arguments, taking_arguments, retry, **more)


async def order(live: Live, word: str = "hello") -> None:
    async with live.sessions() as session, transaction(session):
        await enqueue(session, "say", Arguments(word=word))


async def states(live: Live) -> list[str]:
    async with live.sessions() as session:
        return list(await session.scalars(text("SELECT status::text FROM pgqueuer ORDER BY id")))


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what only the database tells."""
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110 - the database tells nobody by itself
            await asyncio.sleep(0.02)


# When a task is tried again.


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_pauses_double_up_to_the_longest_and_are_never_less_than_half(
    attempt: int, chance: float
) -> None:
    retry = Retry(timedelta(seconds=5), timedelta(minutes=10), attempts=None)
    whole = min(5 * 2 ** min(attempt - 1, 30), 600)
    assert whole / 2 <= retry.pause(attempt, chance).total_seconds() <= whole
    assert retry.may_start(attempt)


@given(st.integers(1, 50), st.integers(1, 60))
def test_so_many_attempts_and_no_more(attempts: int, attempt: int) -> None:
    retry = Retry(timedelta(seconds=1), timedelta(seconds=1), attempts)
    assert retry.may_start(attempt) == (attempt <= attempts)


# What is ordered with a transaction.


async def test_a_task_is_ordered_with_its_transaction_or_not_at_all(live: Live) -> None:
    async def fail(session: AsyncSession) -> None:
        async with transaction(session):
            await enqueue(session, "say", Arguments(word="never"))
            raise LookupError

    async with live.sessions() as session:
        with pytest.raises(LookupError):
            await fail(session)
        async with transaction(session):
            await enqueue(session, "say", Arguments(word="hello"))
            assert await states(live) == []  # nobody else sees it before the end
    assert await states(live) == ["queued"]


async def test_a_task_runs_once_and_is_gone(live: Live) -> None:
    said: list[str] = []

    async def say(word: str) -> None:
        said.append(word)

    async with working(live, task_of(say)):
        for word in ("one", "two", "three"):
            await order(live, word)
        await until(lambda: is_empty(live))
    assert sorted(said) == ["one", "three", "two"]


async def is_empty(live: Live) -> bool:
    return await states(live) == []


async def is_dead(live: Live) -> bool:
    return await states(live) == ["failed"]


async def test_a_task_belongs_to_the_request_that_ordered_it(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    live = start()
    found: list[tuple[str, str]] = []

    async def look(_: str) -> None:
        request = current_request()
        assert request
        found.append((request.request_id, request.trace_id))
        logging.getLogger("here").warning("said")

    async with live.sessions() as session:
        admin = await make_user(session, role=Role.ADMIN)
    live.app.dependency_overrides[optional_user] = lambda: principal_of(admin)
    ids = {"x-request-id": "order-7", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    body = {"since": "2026-01-01", "until": "2026-01-31"}
    answer = await live.client.post("/api/v1/reports", json=body, headers=ids)
    assert answer.status_code == 202, answer.text
    task = Task("make_report", Anything, lambda _, __: look(""), SOON)
    with caplog.at_level(logging.INFO):
        async with working(live, task):
            await until(lambda: is_empty(live))
    assert found == [("order-7", TRACE)]
    (line,) = [each for each in caplog.records if each.name == "tidegate.worker"]
    assert line.getMessage() == "make_report succeeded"


# What goes wrong.


async def test_a_task_that_fails_is_tried_again_and_its_pauses_are_kept(live: Live) -> None:
    attempts: list[float] = []

    async def third_time_lucky(_: str) -> None:
        attempts.append(asyncio.get_running_loop().time())
        if len(attempts) < 3:
            raise OSError("the password is hunter2")

    slowly = Retry(timedelta(seconds=0.4), timedelta(seconds=0.4), attempts=3)
    async with working(live, task_of(third_time_lucky, slowly)):
        await order(live)
        await until(lambda: is_empty(live))
    assert len(attempts) == 3
    assert all(later - earlier >= 0.2 for earlier, later in pairwise(attempts))
    async with live.sessions() as session:
        logged = await session.scalars(text("SELECT traceback::text FROM pgqueuer_log"))
        assert "hunter2" not in str(logged.all())


async def test_a_task_that_waits_for_somebody_else_is_no_error(
    live: Live, caplog: pytest.LogCaptureFixture
) -> None:
    attempts: list[str] = []

    async def patience(word: str) -> None:
        attempts.append(word)
        if len(attempts) < 6:
            raise NotYetError("no answer")

    for_ever = replace(SOON, attempts=None)
    with caplog.at_level(logging.WARNING):
        async with working(live, task_of(patience, for_ever)):
            await order(live)
            await until(lambda: is_empty(live))
    assert len(attempts) == 6
    assert [each.name for each in caplog.records if each.name != "asyncio"] == []


async def test_a_dead_task_is_told_of_listed_for_admins_and_brought_back(live: Live) -> None:
    attempts: list[str] = []
    buried: list[str] = []
    broken = True

    async def fail(word: str) -> None:
        attempts.append(word)
        if broken:
            raise ZeroDivisionError("card 4111111111111111")

    async def bury(_: Resources, arguments: Arguments) -> None:
        buried.append(arguments.word)

    async with live.sessions() as session:
        ann = await make_user(session)
        admin = await make_user(session, role=Role.ADMIN)
    async with working(live, task_of(fail, bury=bury)):
        await order(live, "7")
        await until(lambda: is_dead(live))
        assert (attempts, buried) == (["7"] * 3, ["7"])

        live.app.dependency_overrides[optional_user] = lambda: principal_of(ann)
        assert (await live.client.get("/api/v1/tasks/dead")).status_code == 403
        live.app.dependency_overrides[optional_user] = lambda: principal_of(admin)
        page = (await live.client.get("/api/v1/tasks/dead")).json()
        (dead,) = page["items"]
        assert (page["total"], dead["name"], dead["arguments"]) == (1, "say", '{"word":"7"}')
        assert dead["reason"] == "ZeroDivisionError, at attempt 3"
        assert await metric(live, "failed") == 1.0

        broken = False
        url = f"/api/v1/tasks/dead/{dead['id']}"
        assert (await live.client.post(f"{url}/retry")).status_code == 204
        await until(lambda: is_empty(live))
        assert len(attempts) == 4
        for answer in (await live.client.post(f"{url}/retry"), await live.client.delete(url)):
            assert (answer.status_code, answer.headers["content-type"]) == (
                404,
                "application/problem+json",
            )


async def metric(live: Live, status: str) -> float:
    async with live.sessions() as session:
        loads = await repository.load(session)
    show(loads)
    return sum(each.count for each in loads if each.status == status)


async def test_a_dead_task_can_be_let_go(live: Live, client_of_admin: httpx.AsyncClient) -> None:
    async def fail(_: str) -> None:
        raise ZeroDivisionError

    async with working(live, task_of(fail)):
        await order(live)
        await until(lambda: is_dead(live))
        (dead,) = (await client_of_admin.get("/api/v1/tasks/dead")).json()["items"]
        answer = await client_of_admin.delete(f"/api/v1/tasks/dead/{dead['id']}")
        assert (answer.status_code, await states(live)) == (204, [])


@pytest.fixture
async def client_of_admin(live: Live) -> httpx.AsyncClient:
    async with live.sessions() as session:
        admin = await make_user(session, role=Role.ADMIN)
    live.app.dependency_overrides[optional_user] = lambda: principal_of(admin)
    return live.client


async def test_a_task_that_takes_its_worker_with_it_each_time_ends_as_dead(live: Live) -> None:
    runs: list[str] = []

    async def say(word: str) -> None:
        runs.append(word)

    await order(live)
    async with live.sessions() as session, transaction(session):
        # As three workers leave it that were killed: begun, and never said to have ended.
        for _ in range(3):
            await session.execute(
                text(
                    "INSERT INTO pgqueuer_log (job_id, status, priority, entrypoint) "
                    "SELECT id, 'picked', 0, 'say' FROM pgqueuer"
                )
            )
    async with working(live, task_of(say)):
        await until(lambda: is_dead(live))
    assert runs == []


async def test_a_task_that_nobody_knows_waits_for_a_worker_that_does(live: Live) -> None:
    said = asyncio.Event()

    async def say(_: str) -> None:
        said.set()

    async with live.sessions() as session, transaction(session):
        await enqueue(session, "from_a_later_release", Arguments(word="?"))
    await order(live)
    async with working(live, task_of(say)):
        await asyncio.wait_for(said.wait(), 30)
    assert await states(live) == ["queued"]


# How a worker ends.


async def test_a_worker_that_drains_finishes_what_it_has_begun(live: Live) -> None:
    begun, end = asyncio.Event(), asyncio.Event()

    async def wait(_: str) -> None:
        begun.set()
        await end.wait()

    async with working(live, task_of(wait)) as running:
        await order(live)
        await begun.wait()
        live.app.state.tidegate.lifecycle.end()
        await order(live, "too late")
        assert not running.done()
        end.set()
        await running
    assert await states(live) == ["queued"]


@pytest.mark.parametrize("how", ["drain", "cancel"])
async def test_what_does_not_end_in_time_goes_back_into_the_queue(
    start: Start, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setenv("TIDEGATE_DRAIN_TIMEOUT", "1")
    live = start()
    begun = asyncio.Event()

    async def hang(_: str) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with working(live, task_of(hang)) as running:
        await order(live)
        await begun.wait()
        if how == "drain":
            live.app.state.tidegate.lifecycle.end()
        else:
            running.cancel()
    assert await states(live) == ["queued"]


async def test_a_worker_survives_its_database(live: Live, own_url: str) -> None:
    said = asyncio.Event()

    async def say(_: str) -> None:
        said.set()

    async with working(live, task_of(say)):
        await order(live, "first")
        await asyncio.wait_for(said.wait(), 30)
        said.clear()
        with psycopg.connect(own_url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        with suppress(DBAPIError):  # what is in the midst of it when a connection ends may fail
            await order(live, "second")
        await order(live, "third")
        await asyncio.wait_for(said.wait(), 30)


# What it stands on.


async def test_the_tables_are_those_that_the_installed_library_wants(own_url: str) -> None:
    connection = await asyncpg.connect(**connect_arguments(settings_of(own_url)))
    try:
        plan = await Queries.from_asyncpg_connection(connection).plan_upgrade()
    finally:
        await connection.close()
    assert (plan.statements, plan.notes) == ((), ())


def test_revisions_and_models_agree(own_url: str, orders_alembic: Path) -> None:
    config = Config(str(orders_alembic))
    driver = own_url.replace("postgresql://", "postgresql+psycopg://")
    config.set_main_option("sqlalchemy.url", driver.replace("%", "%%"))
    command.check(config)


async def test_what_is_logged_of_tasks_long_gone_is_thrown_away(live: Live) -> None:
    await order(live)
    async with live.sessions() as session, transaction(session):
        await session.execute(
            text(
                "INSERT INTO pgqueuer_log (job_id, status, priority, entrypoint, created) "
                "SELECT id, 'picked', 0, 'say', now() - interval '8 days' "
                "FROM unnest(ARRAY[(SELECT id FROM pgqueuer), 0, 0]) AS id"
            )
        )
        assert await repository.prune(session, timedelta(days=7)) == 2
        count = text("SELECT count(*) FROM pgqueuer_log WHERE created < now() - interval '1 day'")
        assert await session.scalar(count) == 1


async def test_tasks_are_ordered_through_a_pooler_and_heard_of_past_it(
    database_url: str,
    pgbouncer: Pgbouncer,
    orders_alembic: Path,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orders.tasks.runner._LOOK_EVERY", timedelta(minutes=5))
    migrate(database_url, orders_alembic)
    pooled = pgbouncer("transaction")
    live = start(DATABASE_URL=pooled, database_pooler=True, DIRECT_URL=database_url)
    said: list[str] = []

    async def say(word: str) -> None:
        said.append(word)

    async with working(live, task_of(say)):
        await asyncio.gather(*(order(live, str(number)) for number in range(20)))
        await until(lambda: is_empty(live))
    assert sorted(said, key=int) == [str(number) for number in range(20)]


async def test_the_direct_url_may_carry_what_only_the_migrations_driver_knows() -> None:
    direct = "postgresql://ann:s%40c@db.example.org:6000/shop?application_name=x&sslmode=require"
    arguments = connect_arguments(settings_of("postgresql://u@pooler/shop", DIRECT_URL=direct))
    assert (arguments["host"], arguments["port"], arguments["password"]) == (
        *("db.example.org", 6000),
        "s@c",
    )
    assert arguments["ssl"] == "require"
    assert "application_name" not in arguments


async def test_a_background_note_is_no_reason_to_refuse_a_login(
    client: httpx.AsyncClient, session: AsyncSession, sign_in: SignIn
) -> None:
    ann = await make_user(session)
    form = {"username": ann.email, "password": "correct horse battery staple"}
    assert (await client.post("/api/v1/auth/login", data=form)).status_code == 200
    sign_in(ann)
    assert (await client.get("/api/v1/auth/me")).json()["last_login_at"]
