"""Orders that race, with real commits: the database decides, not luck."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.access import Role
from orders.models import IdempotencyKey, Order, OrderLine, Product, User
from tests.orders.conftest import Live, speak_as
from tests.orders.factories import lines, make_order, make_product, make_user, principal_of

ORDERS = "/api/v1/orders"


@pytest.fixture
async def ann(live: Live) -> User:
    async with live.sessions() as session:
        user = await make_user(session)
    speak_as(live.app, principal_of(user))
    return user


async def make(live: Live, **values: Any) -> Product:  # noqa: ANN401 - any column
    async with live.sessions() as session:
        return await make_product(session, **values)


async def place(live: Live, body: dict[str, Any], **headers: str) -> httpx.Response:
    return await live.client.post(ORDERS, json=body, headers=headers)


async def stock(session: AsyncSession) -> list[int]:
    return list((await session.scalars(select(Product.stock))).all())


def statuses(answers: list[httpx.Response]) -> dict[int, int]:
    return dict(Counter(answer.status_code for answer in answers))


async def test_oversell_forty_orders_at_once_for_ten_pieces_sell_exactly_ten(
    live: Live, ann: User
) -> None:
    tea = await make(live, stock=10)
    answers = await asyncio.gather(*(place(live, lines((tea, 1))) for _ in range(40)))
    assert statuses(answers) == {201: 10, 409: 30}
    async with live.sessions() as session:
        assert await stock(session) == [0]
        assert await session.scalar(select(func.sum(OrderLine.quantity))) == 10


async def test_crossed_orders_and_cancellations_of_the_same_products_do_not_deadlock(
    live: Live, ann: User
) -> None:
    products = [await make(live, stock=1000) for _ in range(20)]
    forward, backward = (
        lines(*((each, 1) for each in order)) for order in (products, products[::-1])
    )

    async def place_and_cancel(body: dict[str, Any]) -> list[int]:
        placed = await place(live, body)
        left = await live.client.patch(
            placed.headers["location"], json={"status": "cancelled"}, headers={"if-match": "*"}
        )
        return [placed.status_code, left.status_code]

    answers = await asyncio.gather(*(place_and_cancel(each) for each in [forward, backward] * 15))
    assert answers == [[201, 200]] * 30
    async with live.sessions() as session:
        assert await stock(session) == [1000] * 20


async def test_idempotency_ten_of_the_same_order_at_once_are_placed_once_and_told_the_same(
    live: Live, ann: User
) -> None:
    tea = await make(live)
    body = lines((tea, 1))
    answers = await asyncio.gather(
        *(place(live, body, **{"idempotency-key": "k"}) for _ in range(10))
    )
    assert statuses(answers) == {201: 10}
    assert len({answer.content for answer in answers}) == 1
    async with live.sessions() as session:
        assert await stock(session) == [9]
        assert await session.scalar(select(func.count()).select_from(Order)) == 1


async def test_idempotency_a_second_request_waits_for_the_first_one_in_flight(
    live: Live, ann: User
) -> None:
    tea = await make(live)
    body, key = lines((tea, 1)), {"idempotency-key": "k"}
    async with live.sessions() as other:
        await other.execute(text("SELECT 1 FROM products FOR UPDATE"))
        first = asyncio.create_task(place(live, body, **key))
        await waiting(other, 1)  # for the product
        second = asyncio.create_task(place(live, body, **key))
        refused = asyncio.create_task(place(live, lines((tea, 2)), **key))
        await waiting(other, 3)  # the others for the first one's answer
        assert not second.done()
        await other.rollback()
    assert (await first).content == (await second).content
    assert ((await first).status_code, (await refused).status_code) == (201, 422)


async def test_idempotency_if_the_first_one_in_flight_fails_the_second_one_is_tried(
    live: Live, ann: User
) -> None:
    tea = await make(live, stock=0)
    body, key = lines((tea, 1)), {"idempotency-key": "k"}
    async with live.sessions() as other:
        await other.execute(text("SELECT 1 FROM products FOR UPDATE"))
        first = asyncio.create_task(place(live, body, **key))
        await waiting(other, 1)
        second = asyncio.create_task(place(live, body, **key))
        await waiting(other, 2)
        await other.rollback()
    assert ((await first).status_code, (await second).status_code) == (409, 409)
    async with live.sessions() as session:
        assert await session.scalar(select(func.count()).select_from(IdempotencyKey)) == 0


async def waiting(session: AsyncSession, number: int) -> None:
    """Return once so many of this database's connections wait for a lock."""
    query = text(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with asyncio.timeout(20):
        while await session.scalar(query) != number:
            await asyncio.sleep(0.01)
            await session.execute(text("SELECT pg_stat_clear_snapshot()"))


@pytest.mark.parametrize(("if_match", "late"), [('"1"', 412), ("*", 409)])
async def test_double_confirm_of_many_at_once_one_confirms(
    live: Live, ann: User, if_match: str, late: int
) -> None:
    async with live.sessions() as session:
        order = await make_order(session, ann, await make_product(session))
    answers = await asyncio.gather(
        *(
            live.client.patch(
                f"{ORDERS}/{order.id}", json={"status": "confirmed"}, headers={"if-match": if_match}
            )
            for _ in range(8)
        )
    )
    assert statuses(answers) == {200: 1, late: 7}
    assert (await live.client.get(f"{ORDERS}/{order.id}")).json()["version"] == 2


async def test_double_cancel_gives_the_stock_back_once(live: Live, ann: User) -> None:
    tea = await make(live, stock=5)
    placed = await place(live, lines((tea, 5)))
    answers = await asyncio.gather(
        *(
            live.client.patch(
                placed.headers["location"], json={"status": "cancelled"}, headers={"if-match": "*"}
            )
            for _ in range(8)
        )
    )
    assert statuses(answers) == {200: 1, 409: 7}
    async with live.sessions() as session:
        assert await stock(session) == [5]


async def test_a_new_stock_that_was_counted_before_a_sale_is_refused(live: Live) -> None:
    async with live.sessions() as session:
        admin = await make_user(session, role=Role.ADMIN)
    speak_as(live.app, principal_of(admin))
    tea = await make(live, stock=5)
    path = f"/api/v1/products/{tea.id}"
    seen = (await live.client.get(path)).headers["etag"]
    await place(live, lines((tea, 1)))
    refused = await live.client.patch(path, json={"stock": 5}, headers={"if-match": seen})
    assert refused.status_code == 412
    async with live.sessions() as session:
        assert await stock(session) == [4]


async def test_a_user_deleted_while_they_order_leaves_no_order_without_a_word(
    live: Live, ann: User
) -> None:
    tea = await make(live)
    gone = await live.client.delete(f"/api/v1/users/{ann.id}")
    assert gone.status_code == 204
    for headers in ({}, {"idempotency-key": "k"}):
        assert (await place(live, lines((tea, 1)), **headers)).status_code == 401
    async with live.sessions() as session:
        assert await stock(session) == [10]
