"""An order that is sent again is placed once."""

from __future__ import annotations

import json
from datetime import timedelta

import httpx
import pytest
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from orders.models import IdempotencyKey, Product, User
from tests.orders.conftest import SignIn
from tests.orders.factories import lines, make_product, make_user

ORDERS = "/api/v1/orders"


@pytest.fixture
async def ann(session: AsyncSession, sign_in: SignIn) -> User:
    user = await make_user(session)
    sign_in(user)
    return user


@pytest.fixture
async def tea(session: AsyncSession) -> Product:
    return await make_product(session)


async def place(
    client: httpx.AsyncClient, product: Product, quantity: int = 1, key: str = "k"
) -> httpx.Response:
    return await client.post(
        ORDERS, json=lines((product, quantity)), headers={"idempotency-key": key}
    )


async def stock(session: AsyncSession, product: Product) -> int:
    await session.refresh(product)
    return product.stock


async def keys(session: AsyncSession) -> int:
    return await session.scalar(select(func.count()).select_from(IdempotencyKey)) or 0


async def expire(session: AsyncSession) -> None:
    await session.execute(update(IdempotencyKey).values(expires_at=func.now()))
    await session.commit()


async def test_the_same_key_and_body_get_the_same_answer_whatever_has_become_of_the_order(
    client: httpx.AsyncClient, session: AsyncSession, ann: User, tea: Product
) -> None:
    first = await place(client, tea)
    assert first.status_code == 201
    moved = await client.patch(
        first.headers["location"], json={"status": "confirmed"}, headers={"if-match": "*"}
    )
    assert moved.json()["version"] == 2
    tea.price_cents = 1
    await session.commit()
    again = await place(client, tea)
    assert (again.status_code, again.content) == (201, first.content)
    for name in ("etag", "location"):
        assert again.headers[name] == first.headers[name]
    assert await stock(session, tea) == 9


async def test_a_body_that_means_the_same_is_the_same(
    client: httpx.AsyncClient, session: AsyncSession, ann: User, tea: Product
) -> None:
    first = await place(client, tea)
    spaced = json.dumps(lines((tea, 1)), indent=2)
    headers = {"idempotency-key": "k", "content-type": "application/json; charset=utf-8"}
    again = await client.post(ORDERS, content=spaced, headers=headers)
    assert again.content == first.content


async def test_another_body_under_the_same_key_is_refused(
    client: httpx.AsyncClient, session: AsyncSession, ann: User, tea: Product
) -> None:
    await place(client, tea)
    refused = await place(client, tea, 2)
    assert refused.status_code == 422
    (error,) = refused.json()["errors"]
    assert (error["field"], error["code"]) == (
        "header.idempotency-key",
        "idempotency_key_reused",
    )
    assert await stock(session, tea) == 9


async def test_a_key_is_its_users_own(
    client: httpx.AsyncClient, session: AsyncSession, sign_in: SignIn, ann: User, tea: Product
) -> None:
    first = await place(client, tea)
    sign_in(await make_user(session))
    second = await place(client, tea)
    assert second.status_code == 201
    assert second.json()["id"] != first.json()["id"]
    assert (await place(client, tea)).content == second.content
    assert (await place(client, tea, key="K")).json()["id"] != second.json()["id"]


async def test_after_an_error_the_same_key_may_be_tried_again(
    client: httpx.AsyncClient, session: AsyncSession, ann: User
) -> None:
    tea = await make_product(session, stock=0)
    assert (await place(client, tea)).status_code == 409
    assert await keys(session) == 0
    tea.stock = 1
    await session.commit()
    assert (await place(client, tea)).status_code == 201


async def test_a_key_is_kept_for_a_day_and_then_new_again(
    client: httpx.AsyncClient, session: AsyncSession, ann: User, tea: Product
) -> None:
    first = await place(client, tea)
    in_a_day = IdempotencyKey.expires_at.between(
        func.now() + timedelta(hours=23), func.now() + timedelta(hours=25)
    )
    assert (await session.scalars(select(in_a_day))).all() == [True]
    await expire(session)
    second = await place(client, tea, 2)
    assert second.status_code == 201
    assert second.json()["id"] != first.json()["id"]
    assert (await place(client, tea, 2)).content == second.content


async def test_without_a_key_every_order_is_a_new_one(
    client: httpx.AsyncClient, session: AsyncSession, ann: User, tea: Product
) -> None:
    answers = [await client.post(ORDERS, json=lines((tea, 1))) for _ in range(2)]
    assert len({answer.json()["id"] for answer in answers}) == 2
    assert await keys(session) == 0


@pytest.mark.parametrize("key", [b"", b"x" * 256, b"a b", "ä".encode(), b"\x01"])
async def test_a_malformed_key_is_refused_by_header(
    client: httpx.AsyncClient, ann: User, tea: Product, key: bytes
) -> None:
    refused = await client.post(ORDERS, json=lines((tea, 1)), headers={b"idempotency-key": key})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "header.Idempotency-Key"
