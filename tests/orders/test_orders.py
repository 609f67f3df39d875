"""Placing orders, reading them, and moving them on."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.access import Principal, Role, Scope
from orders.models import Order, Product, User
from tests.orders.conftest import SignIn, speak_as
from tests.orders.factories import lines, make_order, make_product, make_user

ORDERS = "/api/v1/orders"


@pytest.fixture
async def ann(session: AsyncSession, sign_in: SignIn) -> User:
    """Who asks, unless the test says otherwise."""
    user = await make_user(session)
    sign_in(user)
    return user


@pytest.fixture
async def tea(session: AsyncSession) -> Product:
    return await make_product(session, sku="tea", price_cents=450)


@pytest.fixture
async def order(session: AsyncSession, ann: User, tea: Product) -> Order:
    return await make_order(session, ann, tea)


def path(order: Order) -> str:
    return f"{ORDERS}/{order.id}"


async def move(
    client: httpx.AsyncClient, order: Order, status: str, if_match: str = "*"
) -> httpx.Response:
    return await client.patch(path(order), json={"status": status}, headers={"if-match": if_match})


async def stock(session: AsyncSession, product: Product) -> int:
    await session.refresh(product)
    return product.stock


async def test_an_order_takes_its_prices_from_the_catalogue_and_reads_back_the_same(
    client: httpx.AsyncClient, session: AsyncSession, ann: User, tea: Product
) -> None:
    gold = await make_product(session, price_cents=10**11, stock=100)
    placed = await client.post(ORDERS, json=lines((tea, 2), (gold, 100)))
    assert placed.status_code == 201, placed.text
    order = placed.json()
    assert (order["status"], order["user_id"]) == ("pending", str(ann.id))
    assert order["total_cents"] == 2 * 450 + 10**13
    assert {each["unit_price_cents"] for each in order["lines"]} == {450, 10**11}
    assert placed.headers["location"] == f"{ORDERS}/{order['id']}"
    read = await client.get(placed.headers["location"])
    assert (read.status_code, read.json()) == (200, order)
    assert placed.headers["etag"] == read.headers["etag"] == '"1"'
    assert (await stock(session, tea), await stock(session, gold)) == (8, 0)


async def test_the_price_of_an_order_stays_when_the_catalogues_changes(
    client: httpx.AsyncClient, session: AsyncSession, ann: User, tea: Product
) -> None:
    placed = (await client.post(ORDERS, json=lines((tea, 1)))).json()
    tea.price_cents = 9999
    await session.commit()
    assert (await client.get(f"{ORDERS}/{placed['id']}")).json() == placed


async def test_a_client_cannot_set_a_price(
    client: httpx.AsyncClient, ann: User, tea: Product
) -> None:
    body = lines((tea, 1))
    body["lines"][0]["unit_price_cents"] = 1
    refused = await client.post(ORDERS, json=body)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "body.lines.0.unit_price_cents"
    refused = await client.post(ORDERS, json=lines((tea, 1)) | {"total_cents": 1})
    assert refused.json()["errors"][0]["field"] == "body.total_cents"


async def test_an_order_that_one_line_refuses_takes_nothing_from_the_others(
    client: httpx.AsyncClient, session: AsyncSession, ann: User, tea: Product
) -> None:
    cup = await make_product(session, sku="cup", stock=1)
    refused = await client.post(ORDERS, json=lines((tea, 5), (cup, 2)))
    assert (refused.status_code, refused.json()["detail"]) == (409, "only 1 left of product cup")
    missing = uuid4()
    body = lines((tea, 5), (Product(id=missing), 1))
    refused = await client.post(ORDERS, json=body)
    assert (refused.status_code, refused.json()["detail"]) == (
        404,
        f"there is no product {missing}",
    )
    assert (await stock(session, tea), await stock(session, cup)) == (10, 1)
    assert (await client.get(ORDERS)).json()["items"] == []


async def test_a_hundred_lines_are_one_order(
    client: httpx.AsyncClient, session: AsyncSession, ann: User
) -> None:
    products = [await make_product(session, price_cents=n) for n in range(101)]
    placed = await client.post(ORDERS, json=lines(*((each, 10) for each in products[:100])))
    assert placed.json()["total_cents"] == 10 * sum(range(100))
    refused = await client.post(ORDERS, json=lines(*((each, 1) for each in products)))
    assert refused.status_code == 422


async def test_the_orders_of_others_do_not_exist_but_for_an_admin(
    client: httpx.AsyncClient, session: AsyncSession, sign_in: SignIn, order: Order
) -> None:
    sign_in(await make_user(session))
    nobodys = Order(id=uuid4())
    for each in (order, nobodys):
        for refused in (await client.get(path(each)), await move(client, each, "cancelled")):
            assert refused.status_code == 404
            assert refused.json()["detail"] == f"there is no order {each.id}"
    assert (await client.get(ORDERS)).json()["items"] == []
    sign_in(await make_user(session, role=Role.ADMIN))
    assert (await client.get(path(order))).status_code == 200
    assert [each["id"] for each in (await client.get(ORDERS)).json()["items"]] == [str(order.id)]
    assert (await move(client, order, "cancelled")).status_code == 200


async def test_an_order_outlives_its_user_and_is_an_admins_then(
    client: httpx.AsyncClient, session: AsyncSession, sign_in: SignIn, ann: User, order: Order
) -> None:
    assert (await client.delete(f"/api/v1/users/{ann.id}")).status_code == 204
    assert (await client.get(path(order))).status_code == 404
    sign_in(await make_user(session, role=Role.ADMIN))
    assert (await client.get(path(order))).json()["user_id"] is None


async def test_strangers_are_asked_who_they_are_and_keys_for_their_scope(
    app: FastAPI, client: httpx.AsyncClient, ann: User, order: Order
) -> None:
    async def answers() -> list[int]:
        return [
            (await client.get(ORDERS)).status_code,
            (await client.get(path(order))).status_code,
            (await client.post(ORDERS, json={"lines": []})).status_code,
            (await move(client, order, "pending")).status_code,
        ]

    speak_as(app, None)
    assert await answers() == [401, 401, 401, 401]
    speak_as(app, Principal(ann.id, Role.CUSTOMER, frozenset({Scope.ORDERS_READ}), uuid4()))
    assert await answers() == [200, 200, 403, 403]
    speak_as(app, Principal(ann.id, Role.CUSTOMER, frozenset({Scope.ORDERS_WRITE}), uuid4()))
    assert await answers() == [403, 403, 422, 409]


async def test_an_order_moves_on_and_its_version_with_it(
    client: httpx.AsyncClient, session: AsyncSession, sign_in: SignIn, order: Order
) -> None:
    confirmed = await move(client, order, "confirmed", '"1"')
    assert (confirmed.json()["status"], confirmed.headers["etag"]) == ("confirmed", '"2"')
    refused = await move(client, order, "shipped")
    assert refused.status_code == 403
    sign_in(await make_user(session, role=Role.ADMIN))
    for status, version in (("shipped", 3), ("delivered", 4)):
        moved = await move(client, order, status, f'"{version - 1}"')
        assert (moved.json()["status"], moved.json()["version"]) == (status, version)
    assert (await client.get(path(order))).json() == moved.json()
    refused = await move(client, order, "cancelled")
    assert refused.status_code == 409
    assert "the order is delivered" in refused.json()["detail"]


async def test_what_a_cancelled_order_held_is_for_sale_again_once(
    client: httpx.AsyncClient, session: AsyncSession, ann: User, tea: Product
) -> None:
    cup = await make_product(session, stock=1)
    placed = await client.post(ORDERS, json=lines((tea, 10), (cup, 1)))
    order = Order(id=placed.json()["id"])
    assert (await stock(session, tea), await stock(session, cup)) == (0, 0)
    assert (await move(client, order, "cancelled")).status_code == 200
    assert (await move(client, order, "cancelled")).status_code == 409
    assert (await stock(session, tea), await stock(session, cup)) == (10, 1)


async def test_a_change_names_the_version_that_it_means(
    client: httpx.AsyncClient, order: Order
) -> None:
    missing = await client.patch(path(order), json={"status": "confirmed"})
    assert (missing.status_code, "If-Match" in missing.json()["detail"]) == (428, True)
    for other in ('"2"', 'W/"1"', "1", ""):
        assert (await move(client, order, "confirmed", other)).status_code == 412
    assert (await move(client, order, "confirmed", '"7", "1"')).status_code == 200
    assert (await move(client, order, "cancelled", '"1"')).status_code == 412


ID = "7b6ff2bb-31d5-4e6f-a6d4-8f3b6f0b7a54"
LINE = {"product_id": ID, "quantity": 1}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"lines": []}, "lines"),
        ({"lines": [LINE] * 101}, "lines"),
        ({"lines": [LINE, LINE | {"product_id": ID.upper()}]}, "lines"),
        ({"lines": {"0": LINE}}, "lines"),
        ({"lines": [LINE | {"quantity": 0}]}, "lines.0.quantity"),
        ({"lines": [LINE | {"quantity": 101}]}, "lines.0.quantity"),
        ({"lines": [LINE | {"quantity": 1.5}]}, "lines.0.quantity"),
        ({"lines": [LINE | {"quantity": 10**400}]}, "lines.0.quantity"),
        ({"lines": [LINE | {"quantity": True}]}, "lines.0.quantity"),
        ({"lines": [LINE | {"product_id": "tea"}]}, "lines.0.product_id"),
        ({"lines": [LINE | {"product_id": "\x00"}]}, "lines.0.product_id"),
        ({"lines": [LINE], "user_id": ID}, "user_id"),
        ({"lines": [LINE], "status": "delivered"}, "status"),
        ({}, "lines"),
    ],
)
async def test_a_malformed_order_is_refused_by_field(
    client: httpx.AsyncClient, ann: User, body: dict[str, Any], field: str
) -> None:
    refused = await client.post(ORDERS, json=body)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == f"body.{field}"


@pytest.mark.parametrize("status", ["paid", "", None, 1, ["confirmed"]])
async def test_a_state_that_does_not_exist_is_refused_by_field(
    client: httpx.AsyncClient, order: Order, status: object
) -> None:
    refused = await client.patch(path(order), json={"status": status}, headers={"if-match": "*"})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "body.status"
