"""The live stream where something comes in its way: a burst, a drain, a pooler, an outage."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import psycopg
import pytest
import websockets
from psycopg.sql import SQL, Identifier
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.pool import NullPool

from tests.orders.processes import end_all
from tests.orders.streams import (
    Customer,
    Replica,
    hear,
    insert_event,
    sign_in,
    start_replica,
    until_closed,
)
from tests.pgbouncer import pgbouncer
from tests.ports import free_ports
from tidegate import asyncpg_url

Serve = Callable[..., Replica]


@pytest.fixture
def serve(own_url: str) -> Iterator[Serve]:
    """Start a process that the test may end."""
    started: list[Replica] = []

    def start(**environment: str) -> Replica:
        started.append(start_replica(**{"DATABASE_URL": own_url} | environment))
        return started[-1]

    yield start
    end_all(started)


@pytest.fixture
async def customer(own_url: str) -> AsyncIterator[Customer]:
    engine = create_async_engine(asyncpg_url(own_url), poolclass=NullPool)
    yield await sign_in(own_url, async_sessionmaker(engine, expire_on_commit=False))
    await engine.dispose()


async def test_a_burst_of_clients_gets_no_more_streams_than_one_user_may_have(
    serve: Serve, customer: Customer
) -> None:
    replica = serve(APP_STREAMS_PER_USER="3")
    await replica.until_ready()
    order = await customer.order()
    query = f"?order_id={order.id}"
    async with AsyncExitStack() as stack:
        sockets = await asyncio.gather(
            *(
                stack.enter_async_context(replica.websocket(customer.bearer, query=query))
                for _ in range(20)
            )
        )
        firsts = await asyncio.gather(*map(hear, sockets), return_exceptions=True)
        closed = websockets.ConnectionClosed
        refused = [
            each for each, said in zip(sockets, firsts, strict=True) if isinstance(said, closed)
        ]
        assert len(refused) == 17
        reason = "you have 3 streams open; close one of them"
        assert {await until_closed(each) for each in refused} == {(4429, reason)}
    async with AsyncExitStack() as stack:
        streams = await asyncio.gather(
            *(stack.enter_async_context(replica.events(customer.token, query)) for _ in range(20))
        )
        answers = sorted(
            (each.answer.status_code, each.answer.headers["content-type"]) for each in streams
        )
        kinds = [(200, "text/event-stream; charset=utf-8"), (429, "application/problem+json")]
        assert answers == kinds[:1] * 3 + kinds[1:] * 17


async def test_a_drain_ends_every_stream_and_costs_no_grace_period(
    serve: Serve, customer: Customer
) -> None:
    replica = serve(TIDEGATE_DRAIN_TIMEOUT="60")
    await replica.until_ready()
    async with (
        replica.websocket(customer.bearer) as websocket,
        replica.events(customer.token) as events,
    ):
        await hear(websocket)
        await events.until_id()
        began = time.monotonic()
        ending = asyncio.create_task(replica.terminate())
        assert (await until_closed(websocket))[0] == 1012
        name, data = await events.next()
        assert (name, data["code"]) == ("end", 1012)
        output = await ending
    assert time.monotonic() - began < 25  # of a drain time-out of 60
    assert "did not end" not in output
    (line,) = (json.loads(each) for each in output.splitlines() if '"message":"websocket"' in each)
    assert (line["http.route"], line["websocket.close_code"]) == ("/api/v1/ws", 1012)
    assert line["user_id"] == str(customer.user.id)


async def test_without_the_direct_way_to_the_database_events_are_late_and_not_lost(
    own_url: str, serve: Serve, customer: Customer
) -> None:
    replica = serve(DIRECT_URL="postgresql://nobody@127.0.0.1:9/none", APP_STREAM_HEARTBEAT="60")
    ready = await replica.until(lambda answer: answer.status_code == 200)
    assert ready.json()["status"] == "degraded"
    assert "DIRECT_URL" in ready.text
    async with replica.websocket(customer.bearer) as websocket:
        await hear(websocket)
        order = await customer.order()
        assert (await hear(websocket))["event"]["order_id"] == str(order.id)
        with psycopg.connect(own_url) as connection:
            connection.execute(
                "UPDATE users SET is_active = false WHERE id = %s", [customer.user.id]
            )
        assert (await until_closed(websocket))[0] == 4401
    await replica.terminate()


async def test_behind_a_pooler_alone_events_are_late_and_not_lost_and_the_service_says_why(
    own_url: str, serve: Serve, customer: Customer, tmp_path: Path
) -> None:
    port, _ = free_ports()
    with pgbouncer(own_url, tmp_path, port, pool_mode="transaction") as pooled:
        replica = serve(DATABASE_URL=pooled, APP_DATABASE_POOLER="true")
        ready = await replica.until(lambda answer: answer.status_code == 200)
        assert ready.json()["status"] == "degraded"
        assert "DIRECT_URL is not set" in ready.text
        async with replica.websocket(customer.bearer) as websocket:
            await hear(websocket)
            order = await customer.order()
            assert (await hear(websocket))["event"]["order_id"] == str(order.id)
        output = await replica.terminate()
    (line,) = (each for each in output.splitlines() if '"logger":"orders.stream.listener"' in each)
    assert "forgets listeners; set it to the database past the pooler" in line


async def test_streams_outlive_the_database_and_are_told_what_came_while_it_was_away(
    postgres: str, own_url: str, serve: Serve, customer: Customer
) -> None:
    order = await customer.order()
    replica = serve(APP_STREAM_HEARTBEAT="0.5", APP_DATABASE_POOL_TIMEOUT="1")
    await replica.until_ready()
    with psycopg.connect(own_url, autocommit=True) as writer:  # of whom the service knows nothing
        async with (
            replica.websocket(customer.bearer) as websocket,
            replica.events(customer.token) as events,
        ):
            await hear(websocket)
            await events.until_id()
            close_database(postgres, writer)
            ids = [insert_event(writer, order) for _ in range(3)]
            await replica.until(lambda answer: answer.status_code == 503)
            async with replica.websocket(customer.bearer) as late:
                assert (await until_closed(late))[0] == 1013
            for _ in range(8):  # longer than the clock by which it looks for events
                assert (await hear(websocket, pings=True))["type"] == "ping"
            allow_connections(postgres, writer, "true")
            await replica.until_ready()
            ids.append(insert_event(writer, order))
            assert [(await hear(websocket))["event"]["id"] for _ in ids] == ids
            assert [(await events.next())[1]["id"] for _ in ids] == ids
    output = await replica.terminate()
    assert output.count("events cannot be read") == 1


def close_database(postgres: str, spared: psycopg.Connection) -> None:
    """Let nobody into a database, and put out who is in, but for one."""
    allow_connections(postgres, spared, "false")
    spared.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


def allow_connections(postgres: str, inside: psycopg.Connection, allowed: str) -> None:
    name = inside.info.dbname
    with psycopg.connect(postgres, autocommit=True) as admin:
        change = SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        admin.execute(change.format(Identifier(name), SQL(allowed)))
