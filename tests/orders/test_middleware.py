"""What stands around every answer, also around the refusals."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from orders.core.errors import Problem
from orders.middleware.body_limit import BodyLimit
from orders.middleware.trusted_hosts import is_trusted
from tests.orders.conftest import BASE_URL, Live, Start, client_of, speak_as
from tests.orders.factories import make_product, make_user, principal_of

REGISTER = "/api/v1/auth/register"
PRODUCTS = "/api/v1/products"
SHOP = "https://shop.example.com"


def problem(answer: httpx.Response, status: int) -> Problem:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return Problem.model_validate_json(answer.content)


@pytest.fixture
def fenced(start: Start) -> Live:
    """The service with all middleware in place."""
    live = start(
        browser_origins=SHOP,
        trusted_hosts="orders.example.org,*.internal",
        body_bytes=2000,
        rate_limit="5/hour",
    )

    @live.app.get("/fault")
    async def fault() -> None:
        raise RuntimeError("a fault")

    return live


def is_told(answer: httpx.Response) -> None:
    """Whatever the answer is: it has its ids, its time, its policy, and CORS headers."""
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])
    assert re.fullmatch(r"app;dur=[0-9.]+", answer.headers["server-timing"])
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["access-control-allow-origin"] == SHOP
    assert "X-Request-ID" in answer.headers["access-control-expose-headers"]


async def test_every_answer_passes_through_all_of_it_refusals_and_faults_as_well(
    fenced: Live,
) -> None:
    from_shop = {"origin": SHOP}
    good = await fenced.client.get(PRODUCTS, headers=from_shop)
    assert good.status_code == 200
    too_large = await fenced.client.post(REGISTER, content=b"x" * 3000, headers=from_shop)
    problem(too_large, 413)
    fault = await fenced.client.get("/fault", headers=from_shop)
    assert "log knows more" in problem(fault, 500).detail
    missing = await fenced.client.get("/nothing", headers=from_shop)
    problem(missing, 404)
    for _ in range(3):
        too_many = await fenced.client.get(PRODUCTS, headers=from_shop)
    problem(too_many, 429)
    for answer in (good, too_large, fault, missing, too_many):
        is_told(answer)


# CORS


async def test_a_page_of_a_named_origin_may_ask_and_one_of_another_may_not(fenced: Live) -> None:
    wanted = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,idempotency-key",
    }
    allowed = await fenced.client.options(PRODUCTS, headers=wanted | {"origin": SHOP})
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-credentials"] == "true"
    refused = await fenced.client.options(PRODUCTS, headers=wanted | {"origin": "https://evil.net"})
    assert "origin" in problem(refused, 400).detail
    for answer in (refused, await fenced.client.get(PRODUCTS, headers={"origin": "null"})):
        assert "access-control-allow-origin" not in answer.headers


# Hosts


@pytest.mark.parametrize("host", ["evil.net", "orders.example.org.evil.net", "internal", "a b", ""])
async def test_another_host_is_refused(fenced: Live, host: str) -> None:
    assert "Host" in problem(await fenced.client.get(PRODUCTS, headers={"host": host}), 400).detail
    for known in ("orders.example.org:443", "a.b.INTERNAL"):
        assert (await fenced.client.get("/nothing", headers={"host": known})).status_code == 404


NAMES = st.from_regex(r"[a-z0-9]{1,8}(\.[a-z0-9]{1,8}){0,3}", fullmatch=True)


@given(host=NAMES, other=NAMES, port=st.integers(0, 65535))
def test_a_host_is_trusted_by_its_name_or_by_a_parents_wildcard(
    host: str, other: str, port: int
) -> None:
    assert is_trusted(f"{host}:{port}", {host})
    assert is_trusted(host.upper(), {host})
    assert is_trusted(f"{other}.{host}", {f"*.{host}"})
    assert not is_trusted(host, {f"*.{host}"})
    assert not is_trusted(f"{other}{host}", {f"*.{host}"})
    assert not is_trusted(f"{host}:{port}x", {host})
    assert is_trusted("[::1]:8000", {"[::1]"})
    assert is_trusted(host, {other}) == (host == other)


# Bodies


async def test_a_body_that_does_not_say_its_size_is_cut_off_on_the_way(fenced: Live) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 10**6:
            sent += 500
            yield b"x" * 500

    headers = {"content-type": "application/json"}
    answer = await fenced.client.post(REGISTER, content=endless(), headers=headers)
    assert "2000 bytes" in problem(answer, 413).detail
    assert answer.headers["connection"] == "close"
    form = {"content-type": "application/x-www-form-urlencoded"}
    sent = 0
    answer = await fenced.client.post("/api/v1/auth/login", content=endless(), headers=form)
    problem(answer, 413)


async def test_who_has_not_signed_in_yet_has_less_to_say(client: httpx.AsyncClient) -> None:
    def of(size: int) -> bytes:
        return b'{"refresh_token": "%s"}' % (b"x" * size)

    headers = {"content-type": "application/json"}
    for path, most in (("/api/v1/auth/refresh", 16 * 1024), (PRODUCTS, 128 * 1024)):
        fits = await client.post(path, content=of(most - 30), headers=headers)
        assert fits.status_code in {401, 422}
        told = problem(await client.post(path, content=of(most), headers=headers), 413)
        assert f"{most} bytes" in told.detail


@given(chunks=st.lists(st.integers(0, 60), max_size=8))
def test_a_body_passes_if_all_of_it_together_is_small_enough(chunks: list[int]) -> None:
    def messages() -> Iterator[Message]:
        for size in chunks:
            yield {"type": "http.request", "body": b"x" * size, "more_body": True}
        yield {"type": "http.request", "body": b"", "more_body": False}

    async def run() -> tuple[bool, int]:
        left, read = messages(), 0

        async def receive() -> Message:
            return next(left)

        async def app(_: Scope, receive: Receive, __: Send) -> None:
            nonlocal read
            while (message := await receive())["more_body"]:
                read += len(message["body"])

        async def send(_: Message) -> None:
            raise AssertionError

        limited = BodyLimit(app, most=100)
        scope: Scope = {"type": "http", "path": "/", "headers": []}
        try:
            await limited(scope, receive, send)
        except HTTPException:
            return False, read
        return True, read

    passed, read = asyncio.run(run())
    assert passed == (sum(chunks) <= 100)
    assert read <= 100


async def test_where_a_route_counts_itself_the_limit_is_its_own() -> None:
    async def app(_: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    limited = BodyLimit(app, most=10, elsewhere={"/files": None})
    transport = httpx.ASGITransport(limited)
    async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as client:
        assert (await client.post("/files/1", content=b"x" * 11)).status_code == 204
        assert (await client.post("/others", content=b"x" * 11)).status_code == 413


# gzip


async def test_long_answers_are_compressed_for_who_asks_and_a_part_of_a_file_is_not(
    start: Start, tmp_path: Path
) -> None:
    # Nor is a stream of events: test_streams.py.
    live = start(files_directory=tmp_path)
    async with live.sessions() as session:
        for _ in range(20):
            await make_product(session)
    plain = await live.client.get(PRODUCTS, headers={"accept-encoding": "identity"})
    packed = await live.client.get(PRODUCTS, headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["vary"].lower() == plain.headers["vary"].lower() == "accept-encoding"
    assert packed.json() == plain.json()
    small = await live.client.get("/nothing", headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in small.headers
    async with live.sessions() as session:
        speak_as(live.app, principal_of(await make_user(session)))
    sent = await live.client.post("/api/v1/files", files={"file": b"a" * 5000})
    asked = {"accept-encoding": "gzip", "range": "bytes=0-3999"}
    part = await live.client.get(f"{sent.headers['location']}/content", headers=asked)
    assert (part.status_code, part.headers["content-length"]) == (206, "4000")
    assert part.headers["content-encoding"] == "identity"


# The order


async def test_a_forged_host_costs_no_rate_and_a_refused_rate_reads_no_body(fenced: Live) -> None:
    for _ in range(10):
        await fenced.client.get(PRODUCTS, headers={"host": "evil.net"})
    lefts = []
    for _ in range(2):
        answer = await fenced.client.get(PRODUCTS)
        found = re.search(r"r=(\d+)", answer.headers["ratelimit"])
        assert found
        lefts.append(int(found[1]))
    assert lefts == [4, 3]
    assert all(first - second == 1 for first, second in pairwise(lefts))
    for _ in range(3):
        await fenced.client.get(PRODUCTS)

    async def unread() -> AsyncIterator[bytes]:
        raise AssertionError("the body of a refused request was read")
        yield b""

    async with client_of(fenced.app) as client:
        answer = await client.post(PRODUCTS, content=unread())
    assert answer.status_code == 429
