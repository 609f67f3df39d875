"""What nearly every request asks for by its key: together with others, and past SQLAlchemy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from collections.abc import Set as AbstractSet
from uuid import uuid4

import psycopg
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from psycopg.sql import SQL, Literal
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from orders.core import lookup
from orders.core.access import Role
from orders.core.database import create_engine
from orders.core.errors import is_away
from orders.core.lookup import Lookup
from orders.core.opaque import ApiKey
from orders.core.rows import Rows, lease_from
from tests.orders.conftest import Live, Start, settings_of
from tests.orders.factories import make_order, make_product, make_user

PATIENCE = 20.0
_UNTIL_ASLEEP = """
DO $$ BEGIN
    WHILE NOT EXISTS (
        SELECT FROM pg_stat_activity WHERE pid = {} AND wait_event = 'PgSleep'
    ) LOOP
        PERFORM pg_sleep(0.01), pg_stat_clear_snapshot();
    END LOOP;
END $$
"""


class Squares:
    """Finds the squares of even numbers, once it may."""

    def __init__(self) -> None:
        self.statements: list[set[int]] = []
        self.may = asyncio.Event()
        self.may.set()
        self.sent = asyncio.Event()

    async def __call__(self, keys: AbstractSet[int]) -> dict[int, int]:
        self.statements.append({*keys})
        self.sent.set()
        await self.may.wait()
        if 666 in keys:
            raise LookupError("no")
        return {key: key * key for key in keys if key % 2 == 0}


async def test_who_asks_at_the_same_moment_is_asked_for_together() -> None:
    read = Squares()
    squares = Lookup("squares", read)
    assert await asyncio.gather(*map(squares.find, (2, 3, 4, 2))) == [4, None, 16, 4]
    assert await squares.find(2) == 4
    assert read.statements == [{2, 3, 4}, {2}]


async def test_who_asks_after_the_statement_was_sent_is_of_the_next_one() -> None:
    read = Squares()
    squares = Lookup("squares", read)
    read.may.clear()
    first = asyncio.create_task(squares.find(2))
    await read.sent.wait()
    second = asyncio.create_task(squares.find(2))
    await asyncio.sleep(0)
    read.may.set()
    assert (await first, await second) == (4, 4)
    assert read.statements == [{2}, {2}]


async def test_who_gives_up_takes_nothing_from_the_others() -> None:
    read = Squares()
    squares = Lookup("squares", read)
    read.may.clear()
    first, second = (asyncio.create_task(squares.find(key)) for key in (2, 4))
    await read.sent.wait()
    first.cancel()
    read.may.set()
    assert await second == 16
    assert first.cancelled()


async def test_what_a_statement_raises_all_of_it_hear_and_nobody_else() -> None:
    squares = Lookup("squares", Squares())
    told = await asyncio.gather(*map(squares.find, (2, 666)), return_exceptions=True)
    assert [type(each) for each in told] == [LookupError, LookupError]
    assert await squares.find(2) == 4


async def test_each_request_that_is_recorded_has_its_span(monkeypatch: pytest.MonkeyPatch) -> None:
    spans, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    tracer = provider.get_tracer("test")
    monkeypatch.setattr(lookup, "_TRACER", tracer)
    squares = Lookup("squares", Squares())

    async def request(key: int) -> int:
        with tracer.start_as_current_span("request") as span:
            await squares.find(key)
        context = span.get_span_context()
        assert context
        return context.span_id

    parents = await asyncio.gather(request(2), request(4))
    await squares.find(2)  # of nobody who is recorded
    asked = [each for each in spans.get_finished_spans() if each.name == "SELECT squares"]
    assert [each.parent and each.parent.span_id for each in asked] == [*parents]


@pytest.fixture
async def engine(own_url: str) -> AsyncIterator[AsyncEngine]:
    """The service's engine, with one connection at most."""
    engine = create_engine(settings_of(own_url, database_pool_size=1))
    yield engine
    await engine.dispose()


async def pid(rows: Rows) -> int:
    (row,) = await rows.read("SELECT pg_backend_pid() AS pid")
    return int(row["pid"])


async def asleep(own_url: str, pid: int) -> None:
    """Wait until the process at the other end sleeps."""
    async with await psycopg.AsyncConnection.connect(own_url, autocommit=True) as admin:
        await admin.execute(SQL(_UNTIL_ASLEEP).format(Literal(pid)))


async def test_an_answer_that_nobody_waits_for_any_more_is_nobody_elses(
    engine: AsyncEngine, own_url: str
) -> None:
    rows = Rows(lease_from(engine))
    first = await pid(rows)
    waiting = asyncio.create_task(rows.read("SELECT 1 FROM pg_sleep(600)"))
    await asleep(own_url, first)
    waiting.cancel()
    async with asyncio.timeout(PATIENCE):
        assert await pid(rows) != first


async def test_a_connection_that_breaks_is_an_error_as_from_a_session_and_the_next_is_another(
    engine: AsyncEngine, own_url: str
) -> None:
    rows = Rows(lease_from(engine))
    first = await pid(rows)
    waiting = asyncio.create_task(rows.read("SELECT 1 FROM pg_sleep(600)"))
    await asleep(own_url, first)
    with psycopg.connect(own_url, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(%s)", [first])
    with pytest.raises(DBAPIError) as broken:
        await waiting
    assert is_away(broken.value)
    assert await pid(rows) != first


async def test_what_the_database_refuses_costs_no_connection(engine: AsyncEngine) -> None:
    rows = Rows(lease_from(engine))
    first = await pid(rows)
    with pytest.raises(DBAPIError) as refused:
        await rows.read("SELECT 1 / $1::int", 0)
    assert not is_away(refused.value)
    assert await pid(rows) == first


def test_a_key_that_the_database_would_refuse_is_never_asked_for() -> None:
    assert ApiKey.parse(f"ok_{'a' * 12}_{'s' * 43}")
    assert ApiKey.parse(f"ok_{chr(0) * 12}_{'s' * 43}") is None


async def test_reading_an_order_says_so_when_the_database_cannot_be_entered(
    start: Start, own_url: str
) -> None:
    path = await order_of(start())
    name = own_url.partition("@/")[2].partition("?")[0]
    away = start(DATABASE_URL=own_url.replace(name, "another_one"))
    token = away.app.state.tokens.issue(uuid4(), Role.CUSTOMER, 0)
    answer = await away.client.get(path, headers={"authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


async def test_reading_an_order_waits_no_longer_than_anything_else(start: Start) -> None:
    live = start(database_pool_size=1, database_pool_timeout=0.2, database_command_timeout=0.3)
    path = await order_of(live)
    assert (await live.client.get(path)).status_code == 200
    async with live.sessions() as session:
        await session.execute(text("SELECT 1"))  # on the one connection that there is
        assert (await live.client.get(path)).status_code == 503
    other = start()
    async with other.sessions() as session:
        await session.execute(text("LOCK TABLE order_lines"))
        async with asyncio.timeout(PATIENCE):
            refused = await live.client.get(path)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
    assert (await live.client.get(path)).status_code == 200


async def order_of(live: Live) -> str:
    """Sign in as somebody who has ordered; return the path of their order."""
    async with live.sessions() as session:
        ann = await make_user(session)
        order = await make_order(session, ann, await make_product(session))
    token = live.app.state.tokens.issue(ann.id, ann.role, ann.token_version)
    live.client.headers["authorization"] = f"Bearer {token}"
    return f"/api/v1/orders/{order.id}"
