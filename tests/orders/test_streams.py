"""The live stream, as clients of real processes see it: WebSockets and server-sent events."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from uuid import uuid4

import httpx
import psycopg
import pytest
import websockets
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.pool import NullPool

from orders.core.access import Role
from orders.core.database import Sessions, transaction
from orders.services.events import EventKind, record
from tests.orders.databases import copy_database
from tests.orders.factories import api_key
from tests.orders.processes import end_all
from tests.orders.streams import (
    Customer,
    Replica,
    hear,
    sign_in,
    start_replica,
    until_closed,
)
from tests.postgres import drop_database
from tidegate import asyncpg_url

OLD_CURSOR = "1000000000.3"
# More than all buffers on the way to a client hold.
MANY = """
    INSERT INTO order_events (order_id, user_id, kind, payload)
    SELECT %s, %s, repeat('moved', 500),
        '{"status": "confirmed", "version": 2, "total_cents": 450}'
    FROM generate_series(1, 4000)
"""


@pytest.fixture(scope="module")
def url(postgres: str, orders_template: str) -> Iterator[str]:
    """A database for all of them: each test has users of its own."""
    name = f"streams_{uuid4().hex}"
    yield copy_database(postgres, orders_template, name)
    drop_database(postgres, name)


@pytest.fixture(scope="module")
def replicas(url: str) -> Iterator[tuple[Replica, Replica]]:
    """Two processes of the service, on one database."""
    started = [start_replica(DATABASE_URL=url, APP_STREAM_HEARTBEAT="0.5") for _ in range(2)]
    try:
        for each in started:
            asyncio.run(each.until_ready())
        yield started[0], started[1]
    finally:
        end_all(started)


@pytest.fixture
async def sessions(url: str) -> AsyncIterator[Sessions]:
    engine = create_async_engine(asyncpg_url(url), poolclass=NullPool)
    yield async_sessionmaker(engine, expire_on_commit=False)
    await engine.dispose()


@pytest.fixture
async def customer(url: str, sessions: Sessions) -> Customer:
    return await sign_in(url, sessions)


async def test_an_order_is_heard_of_on_every_replica_by_those_whose_it_is(
    url: str, sessions: Sessions, replicas: tuple[Replica, Replica], customer: Customer
) -> None:
    admin, other = await sign_in(url, sessions, Role.ADMIN), await sign_in(url, sessions)
    one, two = replicas
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(replica.websocket(each.bearer))
            for each in (customer, admin)
            for replica in replicas
        ]
        stranger = await stack.enter_async_context(two.websocket(other.bearer))
        for each in (*opened, stranger):
            assert (await hear(each))["type"] == "ready"
            assert each.subprotocol == "orders.v1"
        async with one.events(customer.token) as events:
            order = await customer.order()
            await customer.confirm(order)
            told = [await hear(each) for each in opened for _ in range(2)]
            streamed = [(await events.next())[1] for _ in range(2)]
        mine = await other.order()
        heard_by_stranger = await hear(stranger)
    placed, moved = told[0]["event"], told[1]["event"]
    assert (placed["kind"], placed["order_id"]) == ("order.placed", str(order.id))
    assert moved["payload"] == {"status": "confirmed", "version": 2, "total_cents": 450}
    assert [each["event"] for each in told] == [placed, moved] * 4
    assert streamed == [placed, moved]
    assert heard_by_stranger["event"]["order_id"] == str(mine.id)


async def test_one_order_can_be_followed_alone(
    replicas: tuple[Replica, Replica], customer: Customer
) -> None:
    order = await customer.order()
    async with replicas[0].websocket(customer.bearer, query=f"?order_id={order.id}") as followed:
        await hear(followed)
        await customer.order()
        await customer.confirm(order)
        assert (await hear(followed))["event"]["payload"]["status"] == "confirmed"


async def test_who_comes_back_to_another_replica_has_missed_nothing_and_hears_nothing_twice(
    replicas: tuple[Replica, Replica], customer: Customer
) -> None:
    one, two = replicas
    async with one.websocket(customer.bearer) as first:
        await hear(first)
        orders = [await customer.order()]
        last = (await hear(first))["last_event_id"]
    # More than a page of what was missed, and one that goes on while it is told.
    for _ in range(3):
        orders.append(await customer.order())
    async with customer.sessions() as session, transaction(session):
        for _ in range(250):
            await record(session, orders[0], EventKind.MOVED)
    async with (
        two.websocket(customer.bearer, query=f"?last_event_id={last}") as back,
        two.events(customer.token, **{"last-event-id": last}) as events,
    ):
        orders.append(await customer.order())
        ids: list[int] = []
        while len(ids) < 254:
            said = await hear(back)
            if said["type"] == "event":
                ids.append(said["event"]["id"])
        streamed = [(await events.next())[1]["id"] for _ in ids]
    assert len(set(ids)) == 254
    assert streamed == ids == sorted(ids)


async def test_an_event_that_commits_late_is_told_late_and_not_lost(
    replicas: tuple[Replica, Replica], customer: Customer
) -> None:
    order = await customer.order()
    async with replicas[0].websocket(customer.bearer) as websocket:
        await hear(websocket)
        async with customer.sessions() as slow, transaction(slow):
            await record(slow, order, EventKind.MOVED)
            later = await customer.order()
            first = await hear(websocket)
        second = await hear(websocket)
    assert first["event"]["order_id"] == str(later.id)
    assert second["event"]["order_id"] == str(order.id)
    assert second["event"]["id"] < first["event"]["id"]
    # Who heard only the first comes back for the second.
    query = f"?last_event_id={first['last_event_id']}"
    async with replicas[1].websocket(customer.bearer, query=query) as back:
        assert (await hear(back))["event"] == second["event"]
        assert (await hear(back))["type"] == "ready"


async def test_who_was_away_too_long_is_told_to_read_anew(
    replicas: tuple[Replica, Replica], customer: Customer
) -> None:
    one, _ = replicas
    async with (
        one.websocket(customer.bearer, query=f"?last_event_id={OLD_CURSOR}") as websocket,
        one.events(customer.token, **{"last-event-id": OLD_CURSOR}) as events,
    ):
        assert (await hear(websocket))["type"] == "reset"
        assert (await hear(websocket))["type"] == "ready"
        assert await events.next() == ("reset", {})
        assert 1000 <= events.retry <= 4000
        assert events.answer.headers["content-type"].startswith("text/event-stream")
        assert events.answer.headers["cache-control"] == "no-store"
        assert "content-encoding" not in events.answer.headers  # it would wait for more


async def test_silence_is_broken_by_heartbeats(
    replicas: tuple[Replica, Replica], customer: Customer
) -> None:
    async with (
        replicas[0].websocket(customer.bearer) as websocket,
        replicas[0].events(customer.token) as events,
    ):
        assert [(await hear(websocket, pings=True))["type"] for _ in range(3)] == [
            "ready",
            "ping",
            "ping",
        ]
        await events.until_id()
        assert await events.comment() == "ping"


async def test_a_ticket_opens_one_websocket_once(
    replicas: tuple[Replica, Replica], customer: Customer
) -> None:
    headers = {"authorization": f"Bearer {customer.token}"}
    async with httpx.AsyncClient(base_url=replicas[0].url, headers=headers) as client:
        answer = await client.post("/api/v1/tickets")
    assert (answer.status_code, answer.json()["expires_in"]) == (201, 30)
    ticket = f"ticket.{answer.json()['ticket']}"
    async with replicas[0].websocket(ticket) as one, replicas[1].websocket(ticket) as two:
        first = {asyncio.ensure_future(hear(each)): each for each in (one, two)}
        done, _ = await asyncio.wait(first)
        said = [each.result()["type"] for each in done if each.exception() is None]
        refused = [first[each] for each in done if each.exception()]
        assert said == ["ready"]
        assert (await until_closed(refused[0]))[0] == 4401


async def test_a_ticket_ends_with_its_time_and_with_its_users_tokens(
    url: str, replicas: tuple[Replica, Replica], customer: Customer
) -> None:
    late = await customer.ticket()
    with psycopg.connect(url) as connection:
        connection.execute(
            "UPDATE tickets SET expires_at = now() WHERE user_id = %s", [customer.user.id]
        )
    async with replicas[0].websocket(late) as websocket:
        assert (await until_closed(websocket))[0] == 4401
    revoked = await customer.ticket()
    with psycopg.connect(url) as connection:
        connection.execute(
            "UPDATE users SET token_version = token_version + 1 WHERE id = %s", [customer.user.id]
        )
    async with replicas[0].websocket(revoked) as websocket:
        code, reason = await until_closed(websocket)
    assert (code, reason) == (4401, "the ticket is not valid (any more); ask for another one")


@pytest.mark.parametrize(
    ("protocols", "query", "code"),
    [
        ([], "", 4401),
        (["bearer.forged"], "", 4401),
        (["ticket.guessed"], "", 4401),
        (["{bearer}"], "?order_id={other}", 4404),
        (["{bearer}"], "?order_id=1", 4422),
        (["{bearer}"], "?last_event_id=latest", 4422),
        ([], "?token=secret", 4422),
    ],
)
async def test_a_websocket_that_cannot_be_is_closed_with_the_reason(
    url: str,
    sessions: Sessions,
    replicas: tuple[Replica, Replica],
    customer: Customer,
    protocols: list[str],
    query: str,
    code: int,
) -> None:
    other = await (await sign_in(url, sessions)).order()
    names = {"bearer": customer.bearer, "other": other.id}
    offered = [each.format(**names) for each in protocols]
    async with replicas[0].websocket(*offered, query=query.format(**names)) as websocket:
        seen, reason = await until_closed(websocket)
    assert seen == code
    assert reason
    assert "secret" not in reason


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("", {"authorization": "Bearer forged"}, 401),
        ("?order_id=00000000-0000-4000-8000-000000000000", {}, 404),
        ("?order_id=1", {}, 422),
        ("", {"last-event-id": "latest"}, 422),
    ],
)
async def test_an_event_stream_that_cannot_be_is_answered_with_a_problem(
    replicas: tuple[Replica, Replica],
    customer: Customer,
    query: str,
    headers: dict[str, str],
    status: int,
) -> None:
    async with replicas[0].events(customer.token, query, **headers) as events:
        assert events.answer.status_code == status
        assert events.answer.headers["content-type"] == "application/problem+json"


async def test_pages_of_others_are_refused_before_anything_is_opened(
    replicas: tuple[Replica, Replica], customer: Customer
) -> None:
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with replicas[0].websocket(customer.bearer, origin="https://evil.example.org"):
            pass
    assert refused.value.response.status_code == 403
    async with replicas[0].websocket(customer.bearer, origin=replicas[0].url) as websocket:
        assert (await hear(websocket))["type"] == "ready"


async def test_a_client_that_talks_is_told_that_nobody_reads(
    replicas: tuple[Replica, Replica], customer: Customer
) -> None:
    async with replicas[0].websocket(customer.bearer) as websocket:
        await websocket.send("hello")
        assert (await until_closed(websocket))[0] == 1003


@pytest.mark.parametrize(
    "revocation",
    [
        "UPDATE users SET is_active = false WHERE id = %s",
        "UPDATE users SET token_version = token_version + 1 WHERE id = %s",
        "UPDATE users SET role = 'admin' WHERE id = %s",
        "DELETE FROM users WHERE id = %s",
    ],
)
async def test_who_is_signed_out_is_cut_off_on_every_replica(
    url: str,
    sessions: Sessions,
    replicas: tuple[Replica, Replica],
    customer: Customer,
    revocation: str,
) -> None:
    one, two = replicas
    stays = await sign_in(url, sessions)
    async with (
        one.websocket(customer.bearer) as first,
        two.websocket(customer.bearer) as second,
        two.events(customer.token) as events,
        two.websocket(stays.bearer) as other,
    ):
        for each in (first, second, other):
            await hear(each)
        await events.until_id()
        began = time.monotonic()
        with psycopg.connect(url) as connection:
            connection.execute(revocation, [customer.user.id])
        assert [(await until_closed(each))[0] for each in (first, second)] == [4401, 4401]
        name, data = await events.next()
        assert (name, data["code"]) == ("end", 4401)
        assert time.monotonic() - began < 10
        await stays.order()
        assert (await hear(other))["type"] == "event"


async def test_a_revoked_key_is_cut_off_and_one_without_the_scope_is_not_let_in(
    url: str, replicas: tuple[Replica, Replica], customer: Customer
) -> None:
    headers = {"authorization": f"Bearer {customer.token}"}
    async with httpx.AsyncClient(base_url=replicas[0].url, headers=headers) as client:
        good, poor = [
            (await client.post("/api/v1/api-keys", json=api_key(scope))).json()
            for scope in ("orders:read", "orders:write")
        ]
        key = {"x-api-key": good["key"]}
        async with replicas[1].websocket(additional_headers=key) as websocket:
            assert (await hear(websocket))["type"] == "ready"
            await client.delete(f"/api/v1/api-keys/{good['id']}")
            assert (await until_closed(websocket))[0] == 4401
    key = {"x-api-key": poor["key"]}
    async with replicas[1].websocket(additional_headers=key) as websocket:
        assert (await until_closed(websocket))[0] == 4403


async def test_a_client_that_reads_nothing_is_let_go_and_its_neighbours_miss_nothing(
    url: str, replicas: tuple[Replica, Replica], customer: Customer
) -> None:
    one, _ = replicas
    order = await customer.order()
    ended = await one.metric('orders_streams_ended_total{code="1013"')
    with socket.create_connection(("127.0.0.1", int(one.url.rpartition(":")[2]))) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request = (
            f"GET /api/v1/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Protocol: orders.v1, {customer.bearer}\r\n\r\n"
        )
        deaf.sendall(request.encode())
        async with one.websocket(customer.bearer, max_queue=None) as neighbour:
            await hear(neighbour)
            with psycopg.connect(url) as connection:
                connection.execute(MANY, [order.id, customer.user.id])
            ids: set[int] = set()
            while len(ids) < 4000:
                said = await hear(neighbour)
                if said["type"] == "event":
                    ids.add(said["event"]["id"])
        async with asyncio.timeout(20):
            while await one.metric('orders_streams_ended_total{code="1013"') == ended:  # noqa: ASYNC110 - seen from outside
                await asyncio.sleep(0.1)


async def test_listeners_that_were_cut_off_listen_again(
    url: str, replicas: tuple[Replica, Replica], customer: Customer
) -> None:
    one, _ = replicas
    async with one.websocket(customer.bearer) as websocket:
        await hear(websocket)
        with psycopg.connect(url) as connection:
            cut = connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'orders-listener' AND datname = current_database()"
            )
            assert len(cut.fetchall()) == 2
        orders = [await customer.order() for _ in range(2)]
        heard = [(await hear(websocket))["event"]["order_id"] for _ in orders]
        assert heard == [str(order.id) for order in orders]
    for each in replicas:
        await each.until(lambda answer: '"degraded"' not in answer.text)
