"""The catalogue's cache: no stampede, nothing old after a write, and no harm when it is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event

from orders.core.access import Role
from orders.core.cache import Cache, Entry, LocalStore
from orders.core.shared import Shared
from tests.orders.conftest import Live, Start, client_of, speak_as
from tests.orders.factories import lines, make_product, make_user, principal_of
from tests.redis_server import RedisServer

PRODUCTS = "/api/v1/products"


class Source:
    """Something slow: it answers when it is let."""

    def __init__(self) -> None:
        self.loads = 0
        self.value = b"old"
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.asked = asyncio.Event()

    async def load(self) -> bytes:
        self.loads += 1
        self.asked.set()
        value = self.value
        await self.may_answer.wait()
        return value


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["in this process", "in redis"])
async def cache(request: pytest.FixtureRequest, clock: Clock) -> AsyncIterator[Cache]:
    shared = None
    if request.param == "in redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        shared = Shared(server.url)
    cache = Cache(10, shared, clock)
    yield cache
    await cache.close()
    if shared:
        await shared.close()


async def test_all_who_ask_at_once_wait_for_one_load(cache: Cache) -> None:
    source = Source()
    source.may_answer.clear()
    asking = [asyncio.create_task(cache.get("t", "k", source.load)) for _ in range(50)]
    await source.asked.wait()
    asking[0].cancel()  # whoever came first may go: the others get what they wait for
    source.may_answer.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1:] == [b"old"] * 49
    assert await cache.get("t", "k", source.load) == b"old"
    assert source.loads == 1


async def test_an_entry_ends_with_its_time(cache: Cache, clock: Clock) -> None:
    source = Source()
    assert await cache.get("t", "k", source.load) == b"old"
    source.value = b"new"
    clock.now += 9.9
    assert await cache.get("t", "k", source.load) == b"old"
    clock.now += 0.1
    assert await cache.get("t", "k", source.load) == b"new"


async def test_a_write_ends_what_was_loaded_before_it_and_only_of_its_topic(cache: Cache) -> None:
    source, other = Source(), Source()
    for topic, each in (("t", source), ("other", other)):
        assert await cache.get(topic, "k", each.load) == b"old"
    source.value = b"new"
    await cache.forget({"t"})
    assert await cache.get("t", "k", source.load) == b"new"
    assert await cache.get("other", "k", other.load) == b"old"
    assert (source.loads, other.loads) == (2, 1)


async def test_what_a_load_has_read_before_a_write_is_not_shown_after_it(cache: Cache) -> None:
    source = Source()
    source.may_answer.clear()
    before = asyncio.create_task(cache.get("t", "k", source.load))
    await source.asked.wait()
    source.value = b"new"
    await cache.forget({"t"})
    after = asyncio.create_task(cache.get("t", "k", source.load))
    source.asked.clear()
    await source.asked.wait()
    source.may_answer.set()
    assert (await before, await after) == (b"old", b"new")
    assert await cache.get("t", "k", source.load) == b"new"


async def test_a_load_that_fails_is_told_to_all_who_wait_and_not_kept(cache: Cache) -> None:
    async def fail() -> bytes:
        await asyncio.sleep(0)
        raise LookupError("gone")

    failed = await asyncio.gather(
        *(cache.get("t", "k", fail) for _ in range(3)), return_exceptions=True
    )
    assert [type(each) for each in failed] == [LookupError] * 3
    assert await cache.get("t", "k", Source().load) == b"old"


async def test_shortly_before_its_end_an_entry_is_loaded_anew_and_nobody_waits(
    cache: Cache, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source()

    async def slow() -> bytes:
        clock.now += 1  # second
        return await source.load()

    assert await cache.get("t", "k", slow) == b"old"
    source.value = b"new"
    source.may_answer.clear()
    source.asked.clear()
    clock.now += 9
    monkeypatch.setattr("orders.core.cache.random.random", lambda: 0.9)  # luck: 0.1
    assert await cache.get("t", "k", source.load) == b"old"
    await source.asked.wait()
    assert await cache.get("t", "k", source.load) == b"old"
    assert source.loads == 2
    source.may_answer.set()
    monkeypatch.setattr("orders.core.cache.random.random", lambda: 0.0)
    while await cache.get("t", "k", source.load) == b"old":  # noqa: ASYNC110 - until it is kept
        await asyncio.sleep(0)
    assert source.loads == 2


@given(
    st.floats(0, 100), st.floats(0, 10), st.floats(0, 1, exclude_min=True), st.binary(max_size=20)
)
def test_an_entry_is_due_at_its_end_at_the_latest_and_earlier_only_if_it_cost_something(
    ahead: float, cost: float, luck: float, value: bytes
) -> None:
    entry = Entry(b"m" * 16, 1000.0, cost, value)
    assert Entry.unpack(entry.pack()) == entry
    assert entry.is_due(1000.0, luck)
    assert not entry.is_due(999.0, 1)
    assert not Entry(b"m" * 16, 1000.0, 0.0, value).is_due(999.0 - ahead, luck)
    assert Entry.unpack(value) is None


async def test_memory_is_bounded() -> None:
    store = LocalStore()
    entry = Entry(b"m" * 16, 0, 0, b"")
    for number in range(1500):
        await store.write("t", str(number), entry, 1)
    kept = [number for number in range(1500) if (await store.read("t", str(number)))[1]]
    assert kept == list(range(500, 1500))


# Through the service


def statements(live: Live) -> Callable[[], int]:
    """Count what reads products from here on."""
    seen: list[str] = []
    engine = live.sessions.kw["bind"].sync_engine

    @event.listens_for(engine, "before_cursor_execute")
    def note(_: object, __: object, statement: str, *___: object) -> None:
        if "FROM products" in statement and "SELECT" in statement:
            seen.append(statement)

    return lambda: len(seen)


async def test_a_hundred_strangers_at_once_cost_one_query(start: Start) -> None:
    live = start(cache_seconds=60)
    async with live.sessions() as session:
        product = await make_product(session)
    count = statements(live)
    paths = [PRODUCTS, f"{PRODUCTS}/{product.id}"] * 50
    answers = await asyncio.gather(*(live.client.get(path) for path in paths))
    assert {answer.status_code for answer in answers} == {200}
    assert answers[1].headers["etag"] == '"1"'
    assert answers[0].json() == [answers[1].json()]
    assert count() == 2
    missing = f"{PRODUCTS}/00000000-0000-4000-8000-000000000000"
    assert [(await live.client.get(missing)).status_code for _ in range(2)] == [404, 404]


async def test_every_write_is_seen_by_strangers_at_the_other_replica_at_once(
    start: Start, redis_server: RedisServer
) -> None:
    here, there = (start(cache_seconds=60, CACHE_URL=redis_server.url) for _ in range(2))
    async with here.sessions() as session:
        admin = await make_user(session, role=Role.ADMIN)
    speak_as(here.app, principal_of(admin))

    async def seen() -> list[tuple[str, int]]:
        answer = await there.client.get(PRODUCTS)
        return [(each["name"], each["stock"]) for each in answer.json()]

    assert await seen() == []
    made = await here.client.post(
        PRODUCTS, json={"sku": "tea", "name": "Tea", "price_cents": 450, "stock": 10}
    )
    path = made.headers["location"]
    assert await seen() == [("Tea", 10)]
    await here.client.patch(path, json={"name": "Green tea"}, headers={"if-match": "*"})
    assert await seen() == [("Green tea", 10)]
    async with here.sessions() as session:
        product = await make_product(session, sku="zzz", name="Z")
    order = await here.client.post("/api/v1/orders", json=lines((product, 3)))
    assert order.status_code == 201, order.text
    assert ("Z", 7) in await seen()
    refused = await here.client.post("/api/v1/orders", json=lines((product, 8)))
    assert refused.status_code == 409
    assert (await here.client.delete(path)).status_code == 204
    assert await seen() == [("Z", 7)]


async def test_who_has_signed_in_reads_the_database_itself(start: Start) -> None:
    live = start(cache_seconds=60)
    async with live.sessions() as session:
        user = await make_user(session)
    assert (await live.client.get(PRODUCTS)).json() == []
    async with live.sessions() as session:  # by something that tells no cache
        await make_product(session, name="Tea")
    assert (await live.client.get(PRODUCTS)).json() == []
    speak_as(live.app, principal_of(user))
    assert [each["name"] for each in (await live.client.get(PRODUCTS)).json()] == ["Tea"]


async def test_while_redis_is_away_the_service_serves_on(
    start: Start, redis_server: RedisServer
) -> None:
    live = start(cache_seconds=60, CACHE_URL=redis_server.url)
    async with live.sessions() as session:
        admin = await make_user(session, role=Role.ADMIN)
    stranger = client_of(live.app)

    async def rename(name: str) -> httpx.Response:
        speak_as(live.app, principal_of(admin))
        answer = await live.client.patch(path, json={"name": name}, headers={"if-match": "*"})
        speak_as(live.app, None)
        return answer

    async with live.sessions() as session:
        path = f"{PRODUCTS}/{(await make_product(session, name='Tea')).id}"
    speak_as(live.app, None)
    assert (await stranger.get(path)).json()["name"] == "Tea"
    redis_server.stop()
    for name in ("Green tea", "Black tea"):
        assert (await rename(name)).status_code == 200
        assert (await stranger.get(path)).json()["name"] == name
    await stranger.aclose()
