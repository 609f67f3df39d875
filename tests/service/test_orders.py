"""Products and orders over the API, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest


async def product(client: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    wanted = {"sku": uuid4().hex, "name": "Tea", "price_cents": 450, "stock": 10} | changes
    answer = await client.post("/api/v1/products", json=wanted)
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


def lines(*wanted: tuple[dict[str, Any], int]) -> dict[str, Any]:
    return {"lines": [{"product_id": item["id"], "quantity": count} for item, count in wanted]}


async def test_an_order_takes_its_prices_from_the_catalogue_and_reads_back_the_same(
    client: httpx.AsyncClient,
) -> None:
    tea, cup = await product(client), await product(client, price_cents=1200)
    placed = await client.post("/api/v1/orders", json=lines((tea, 2), (cup, 1)))
    assert placed.status_code == 201
    order = placed.json()
    assert (order["status"], order["total_cents"]) == ("pending", 2 * 450 + 1200)
    assert {line["unit_price_cents"] for line in order["lines"]} == {450, 1200}
    read = await client.get(f"/api/v1/orders/{order['id']}")
    assert (read.status_code, read.json()) == (200, order)


async def test_a_client_cannot_set_a_price(client: httpx.AsyncClient) -> None:
    body = lines((await product(client), 1))
    body["lines"][0]["unit_price_cents"] = 1
    answer = await client.post("/api/v1/orders", json=body)
    assert answer.status_code == 422


async def test_forty_orders_at_once_for_ten_pieces_sell_exactly_ten(
    client: httpx.AsyncClient,
) -> None:
    tea = await product(client, stock=10)
    answers = await asyncio.gather(
        *(client.post("/api/v1/orders", json=lines((tea, 1))) for _ in range(40))
    )
    codes = sorted(answer.status_code for answer in answers)
    assert codes == [201] * 10 + [409] * 30
    catalogue = (await client.get("/api/v1/products")).json()
    assert [entry["stock"] for entry in catalogue] == [0]


async def test_an_order_that_one_line_refuses_takes_nothing_from_the_others(
    client: httpx.AsyncClient,
) -> None:
    tea, cup = await product(client, stock=5), await product(client, sku="cup", stock=1)
    refused = await client.post("/api/v1/orders", json=lines((tea, 5), (cup, 2)))
    assert refused.status_code == 409
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["detail"] == "only 1 left of product cup"
    catalogue = (await client.get("/api/v1/products")).json()
    assert sorted(entry["stock"] for entry in catalogue) == [1, 5]


async def test_crossed_orders_of_the_same_products_do_not_deadlock(
    client: httpx.AsyncClient,
) -> None:
    tea, cup = await product(client, stock=100), await product(client, stock=100)
    pairs = [lines((tea, 1), (cup, 1)), lines((cup, 1), (tea, 1))] * 10
    answers = await asyncio.gather(*(client.post("/api/v1/orders", json=body) for body in pairs))
    assert {answer.status_code for answer in answers} == {201}


async def test_a_sku_is_taken_once(client: httpx.AsyncClient) -> None:
    await product(client, sku="tea")
    again = await client.post(
        "/api/v1/products", json={"sku": "tea", "name": "Tea", "price_cents": 1}
    )
    assert (again.status_code, again.json()["detail"]) == (409, "the catalogue already has sku tea")


async def test_what_does_not_exist_is_not_found_and_named(client: httpx.AsyncClient) -> None:
    missing = str(uuid4())
    read = await client.get(f"/api/v1/orders/{missing}")
    assert (read.status_code, read.json()["detail"]) == (404, f"there is no order {missing}")
    placed = await client.post("/api/v1/orders", json=lines(({"id": missing}, 1)))
    assert (placed.status_code, placed.json()["detail"]) == (404, f"there is no product {missing}")


@pytest.mark.parametrize(
    "body",
    [
        {"lines": []},
        {"lines": [{"product_id": str(uuid4()), "quantity": 0}]},
        {"lines": [{"product_id": str(uuid4()), "quantity": 101}]},
        {"lines": [{"product_id": "not-an-id", "quantity": 1}]},
        {"lines": [{"product_id": "7b6ff2bb-31d5-4e6f-a6d4-8f3b6f0b7a54", "quantity": 1}] * 2},
        {},
    ],
)
async def test_a_malformed_order_is_refused(
    client: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    assert (await client.post("/api/v1/orders", json=body)).status_code == 422


@pytest.mark.parametrize(
    "change",
    [
        {"price_cents": -1},
        {"price_cents": 2**31},
        {"stock": 2**63},
        {"name": "nul\x00byte"},
        {"name": "x" * 201},
        {"sku": "a b"},
    ],
)
async def test_a_malformed_product_is_refused(
    client: httpx.AsyncClient, change: dict[str, Any]
) -> None:
    body = {"sku": "tea", "name": "Tea", "price_cents": 1} | change
    assert (await client.post("/api/v1/products", json=body)).status_code == 422
