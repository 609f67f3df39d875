"""Who may ask how often: in one process, in several, and while what they share is away."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orders.core.errors import Problem
from orders.core.rate_counts import RateCounts
from orders.core.rates import Rate, network_of
from orders.core.settings import OrdersSettings
from orders.core.shared import Shared
from tests.orders.conftest import BASE_URL, Live, Start, speak_as
from tests.orders.factories import PASSWORD, api_key, make_user, principal_of
from tests.redis_server import RedisServer
from tests.sinks.otlp_sink import silent_port
from tidegate import CheckFailedError, SettingsError, read_settings

PRODUCTS = "/api/v1/products"
LOGIN = "/api/v1/auth/login"


def per_minute(count: int) -> Rate:
    rate = Rate.parse(f"{count}/minute")
    assert rate
    return rate


def from_address(live: Live, address: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(live.app, raise_app_exceptions=False, client=(address, 1))
    return httpx.AsyncClient(transport=transport, base_url=BASE_URL)


async def ask(live: Live, address: str, times: int = 1, **headers: str) -> list[int]:
    async with from_address(live, address) as client:
        return [(await client.get(PRODUCTS, headers=headers)).status_code for _ in range(times)]


@pytest.fixture(autouse=True)
def the_hour_does_not_turn() -> None:
    """Wait for the next window, should this one end within the test."""
    left = 3600 - time.time() % 3600
    if left < 20:
        time.sleep(left)


async def test_who_asks_too_often_is_told_when_to_come_back_and_nobody_else_suffers(
    start: Start,
) -> None:
    live = start(rate_limit="3/hour")
    async with from_address(live, "192.0.2.1") as client:
        answers = [await client.get(PRODUCTS) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert Problem.model_validate_json(answers[-1].content).detail.startswith("more than 3/hour")
    left = int(answers[-1].headers["retry-after"])
    assert 0 < left <= 3600
    assert [answer.headers["ratelimit-policy"] for answer in answers] == [
        '"default";q=3;w=3600'
    ] * 4
    told = [
        re.fullmatch(r'"default";r=(\d);t=(\d+)', each.headers["ratelimit"]) for each in answers
    ]
    assert [match and match[1] for match in told] == ["2", "1", "0", "0"]
    assert await ask(live, "192.0.2.2") == [200]


async def signed_in(live: Live) -> dict[str, str]:
    """The headers of a new user, who has signed in from the first address."""
    async with live.sessions() as session:
        user = await make_user(session)
    async with from_address(live, "192.0.2.1") as client:
        form = {"username": user.email, "password": PASSWORD}
        token = (await client.post(LOGIN, data=form)).json()["access_token"]
    return {"authorization": f"Bearer {token}"}


async def test_a_user_is_one_client_from_wherever_and_strangers_there_are_others(
    start: Start,
) -> None:
    live = start(rate_limit="4/hour")
    bearer = await signed_in(live)
    # The first tells whose token it is, and counts for the address; the others for the user.
    assert await ask(live, "192.0.2.1", 1, **bearer) == [200]
    assert await ask(live, "192.0.2.2", 2, **bearer) == [200, 200]
    assert await ask(live, "192.0.2.3", 3, **bearer) == [200, 200, 429]
    assert await ask(live, "192.0.2.2") == [200]


async def test_made_up_tokens_are_no_clients_of_their_own(start: Start) -> None:
    live = start(rate_limit="3/hour")
    statuses = [
        (await ask(live, "192.0.2.1", 1, authorization=f"Bearer made-up-{number}"))[0]
        for number in range(5)
    ]
    assert statuses == [401, 401, 401, 429, 429]


async def test_a_revoked_token_stands_for_nobody_any_more(start: Start) -> None:
    live = start(rate_limit="3/hour")
    headers = await signed_in(live)
    async with from_address(live, "192.0.2.1") as client:
        await client.get("/api/v1/auth/me", headers=headers)
        assert (await client.post("/api/v1/auth/logout-everywhere", headers=headers)).is_success
    # The thief's next try counts for the user, and all further ones for the thief's address.
    thief = await ask(live, "192.0.2.9", 5, **headers)
    assert thief == [401, 401, 401, 401, 429]


async def test_passwords_are_tried_less_often_by_address_whatever_is_shown(start: Start) -> None:
    live = start(login_rate_limit="2/hour")
    async with from_address(live, "192.0.2.1") as client:
        answers = [
            await client.post(
                LOGIN,
                data={"username": f"{number}@example.org", "password": "guess"},
                headers={"x-api-key": f"{number}"},
            )
            for number in range(3)
        ]
        assert [answer.status_code for answer in answers] == [401, 401, 429]
        assert answers[-1].headers["ratelimit-policy"] == '"login";q=2;w=3600'
        assert (await client.get(PRODUCTS)).status_code == 200
        assert (await client.get(LOGIN)).status_code == 405


async def test_whoever_holds_a_token_tries_passwords_no_more_often(start: Start) -> None:
    live = start(login_rate_limit="2/hour")
    async with live.sessions() as session:
        user, other = await make_user(session), await make_user(session)
    path = f"/api/v1/users/{user.id}"
    speak_as(live.app, principal_of(user))
    change = {"email": "thief@example.org", "current_password": "guess"}
    tries = [await live.client.patch(path, json=change)]
    tries.append(await live.client.post("/api/v1/api-keys", json=api_key("orders:read")))
    tries.append(await live.client.patch(path, json=change | {"current_password": PASSWORD}))
    assert [answer.status_code for answer in tries] == [403, 201, 429]
    assert 0 < int(tries[-1].headers["retry-after"]) <= 3600
    problem = Problem.model_validate_json(tries[-1].content)
    assert problem.detail.startswith("more than 2/hour tries of a password")
    assert (await live.client.patch(path, json={"name": "Ann"})).status_code == 200
    speak_as(live.app, principal_of(other))
    assert (
        await live.client.post("/api/v1/api-keys", json=api_key("orders:read"))
    ).status_code == 201


async def test_replicas_count_together(start: Start, redis_server: RedisServer) -> None:
    one, other = (start(CACHE_URL=redis_server.url, rate_limit="4/hour") for _ in range(2))
    assert await ask(one, "192.0.2.1", 2) == [200, 200]
    assert await ask(other, "192.0.2.1", 3) == [200, 200, 429]
    assert await ask(one, "192.0.2.1") == [429]


async def test_without_what_they_share_replicas_count_alone_and_say_so_once_a_minute(
    start: Start, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    live = start(CACHE_URL=redis_server.url, rate_limit="2/hour")
    assert await ask(live, "192.0.2.1") == [200]
    redis_server.stop()
    with caplog.at_level(logging.WARNING, "orders"):
        assert await ask(live, "192.0.2.1", 3) == [200, 200, 429]
    complaints = [each for each in caplog.messages if "CACHE_URL" in each]
    assert len(complaints) == 1


async def test_what_is_away_is_told_once_a_minute(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    now = 1000.0
    redis_server.stop()
    shared = Shared(redis_server.url, clock=lambda: now)
    counts = RateCounts(shared)
    told = []
    with caplog.at_level(logging.WARNING, "orders"):
        for passed in (0, 1, 58, 1, 30):  # seconds
            now += passed
            await counts.hit("p", per_minute(10), "ann")
            told.append(len(caplog.messages))
    assert told == [1, 1, 1, 2, 2]
    await shared.close()


async def test_what_is_away_is_asked_again_after_a_moment(redis_server: RedisServer) -> None:
    now = 1000.0
    shared = Shared(redis_server.url, clock=lambda: now)
    counts = RateCounts(shared)
    rate = per_minute(10)
    assert (await counts.hit("p", rate, "ann")).remaining == 9
    redis_server.stop()
    assert (await counts.hit("p", rate, "ann")).remaining == 9  # this process's first
    redis_server.start()
    assert (await counts.hit("p", rate, "ann")).remaining == 8  # not asked yet
    now += 1
    assert (await counts.hit("p", rate, "ann")).remaining == 9  # there, all was lost
    await shared.close()


async def test_what_hangs_costs_no_more_than_half_a_second_and_that_once() -> None:
    with silent_port() as silent:
        shared = Shared(f"valkey://127.0.0.1:{silent.rpartition(':')[2]}/0")
        counts = RateCounts(shared)
        began = time.monotonic()
        standings = [await counts.hit("p", per_minute(10**6), "ann") for _ in range(100)]
        assert standings[-1].remaining == 10**6 - 100
        assert time.monotonic() - began < 0.9
        with pytest.raises(CheckFailedError, match="CACHE_URL does not answer"):
            await shared.check()
        await shared.close()


@pytest.mark.parametrize("url", ["http://h", "redis://:pass-w0rd@h:port/0", "h:6379"])
def test_what_is_no_redis_is_refused_and_not_quoted(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u@h/d")
    monkeypatch.setenv("APP_ENV", "development")
    monkeypatch.setenv("CACHE_URL", url)
    with pytest.raises(SettingsError, match="CACHE_URL: write it as redis://") as refused:
        read_settings(OrdersSettings)
    assert "pass-w0rd" not in str(refused.value)


@given(st.integers(1, 10**9), st.sampled_from(["second", "minute", "hour", "5 minutes", "2 days"]))
def test_a_rate_is_read_as_it_is_written(count: int, unit: str) -> None:
    assert str(Rate.parse(f"{count}/{unit}")) == f"{count}/{unit}"


@pytest.mark.parametrize(
    "text",
    [
        "600",
        "0/minute",
        "-1/hour",
        "1/week",
        "1/second;5/hour",
        "9e9/hour",
        "1/ 9999999999 hours",
    ],
)
def test_what_is_no_rate_is_refused_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u@h/d")
    monkeypatch.setenv("APP_ENV", "development")
    monkeypatch.setenv("APP_RATE_LIMIT", text)
    with pytest.raises(SettingsError, match=r"APP_RATE_LIMIT: it is no rate; write one as"):
        read_settings(OrdersSettings)


class Clock:
    """The time, as a test has it."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 1_800_000_000.0
        patch.setattr(time, "time", lambda: self.now)
        patch.setattr(time, "monotonic", lambda: self.now)


@given(
    st.integers(1, 20),
    st.lists(st.tuples(st.floats(0, 300), st.sampled_from("ab")), max_size=60),
)
async def test_in_no_span_does_anybody_get_more_than_one_windows_worth_and_the_spans_share(
    count: int, requests: list[tuple[float, str]]
) -> None:
    rate, counts = per_minute(count), RateCounts(None)
    allowed: dict[str, list[float]] = {"a": [], "b": []}
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock(patch)
        for moment, who in sorted(requests):
            clock.now = 1_800_000_000.0 + moment
            standing = await counts.hit("p", rate, who)
            assert 0 < standing.reset <= 60
            assert 0 <= standing.remaining <= count
            if standing.allowed:
                allowed[who].append(moment)
    for times in allowed.values():
        for first, begin in enumerate(times):
            for number, end in enumerate(times[first:], 1):
                assert number <= count * (1 + (end - begin) / 60) + 1


async def test_nobody_gets_two_windows_worth_at_the_turn_of_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, counts, rate = Clock(monkeypatch), RateCounts(None), per_minute(10)
    clock.now = 60.0 * 30_000_000 - 0.1
    assert [(await counts.hit("p", rate, "ann")).allowed for _ in range(10)] == [True] * 10
    clock.now += 0.2
    assert [(await counts.hit("p", rate, "ann")).allowed for _ in range(9)] == [True] + [False] * 8
    clock.now += (await counts.hit("p", rate, "ann")).reset
    assert (await counts.hit("p", rate, "ann")).allowed


async def test_no_flood_of_addresses_fills_the_memory_and_who_was_there_before_is_still_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, counts, rate = Clock(monkeypatch), RateCounts(None), per_minute(10)
    monkeypatch.setattr("orders.core.rate_counts._MOST_COUNTS", 1000)
    left = [(await counts.hit("p", rate, str(number))).remaining for number in range(1000)]
    assert set(left) == {9}
    late = [(await counts.hit("p", rate, f"late-{number}")).remaining for number in range(3)]
    assert late == [9, 8, 7]
    assert (await counts.hit("p", rate, "7")).remaining == 8
    clock.now += 180
    await counts.hit("p", rate, "now")  # looks through them
    await asyncio.sleep(0)
    assert (await counts.hit("p", rate, "later")).remaining == 9
    assert (await counts.hit("p", rate, "later")).remaining == 8


async def test_many_clients_make_no_request_dearer() -> None:
    rate = per_minute(10**6)
    looked: list[int] = []

    class Watched(dict[str, float]):
        def __iter__(self) -> Iterator[str]:
            looked.append(len(self))
            return super().__iter__()

        keys = __iter__  # type: ignore[assignment]  # what the library asks for, to list it

    counts = RateCounts(None)
    counts._process.expirations = Watched()
    for number in range(100):
        await counts.hit("p", rate, str(number))
        await asyncio.sleep(0)
    assert looked == []


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("/run/socket", "/run/socket"),
        ("", ""),
    ],
)
def test_an_address_counts_as_its_network(address: str, network: str) -> None:
    assert network_of(address) == network
