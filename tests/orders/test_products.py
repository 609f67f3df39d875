"""The catalogue: open to read, and an admin's to change."""

from __future__ import annotations

from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.access import Principal, Role, Scope
from orders.models import User
from tests.orders.conftest import SignIn, speak_as
from tests.orders.factories import make_order, make_product, make_user

PRODUCTS = "/api/v1/products"
TEA = {"sku": "tea", "name": "Tea", "price_cents": 450, "stock": 10}


@pytest.fixture
async def admin(session: AsyncSession, sign_in: SignIn) -> User:
    user = await make_user(session, role=Role.ADMIN)
    sign_in(user)
    return user


def path(product_id: UUID | str) -> str:
    return f"{PRODUCTS}/{product_id}"


async def test_an_admin_makes_changes_and_deletes_a_product(
    client: httpx.AsyncClient, admin: User
) -> None:
    made = await client.post(PRODUCTS, json=TEA)
    assert (made.status_code, made.headers["etag"]) == (201, '"1"')
    assert made.headers["location"] == path(made.json()["id"])
    read = await client.get(made.headers["location"])
    assert (read.json(), read.headers["etag"]) == (made.json(), '"1"')
    change, seen = {"price_cents": 500, "stock": 3}, {"if-match": read.headers["etag"]}
    changed = await client.patch(made.headers["location"], json=change, headers=seen)
    assert changed.json() == made.json() | change | {"version": 2}
    assert changed.headers["etag"] == '"2"'
    assert (await client.delete(made.headers["location"])).status_code == 204
    assert (await client.get(made.headers["location"])).status_code == 404
    assert (await client.delete(made.headers["location"])).status_code == 404


async def test_a_change_of_what_somebody_else_has_changed_is_refused(
    client: httpx.AsyncClient, session: AsyncSession, admin: User
) -> None:
    tea = await make_product(session)
    first, second = [
        await client.patch(path(tea.id), json={"name": name}, headers={"if-match": '"1"'})
        for name in ("Green tea", "Black tea")
    ]
    assert (first.status_code, second.status_code) == (200, 412)
    assert "read it again" in second.json()["detail"]
    blind = await client.patch(path(tea.id), json={"name": "White tea"})
    assert (blind.status_code, "If-Match" in blind.json()["detail"]) == (428, True)
    assert (await client.get(path(tea.id))).json()["name"] == "Green tea"


async def test_a_change_that_changes_nothing_makes_no_new_version(
    client: httpx.AsyncClient, session: AsyncSession, admin: User
) -> None:
    tea = await make_product(session)
    for body in ({}, {"name": tea.name}, {"name": None}):
        same = await client.patch(path(tea.id), json=body, headers={"if-match": "*"})
        assert (same.status_code, same.json()["version"]) == (200, 1)


async def test_a_product_that_orders_name_stays(
    client: httpx.AsyncClient, session: AsyncSession, admin: User
) -> None:
    tea = await make_product(session)
    await make_order(session, admin, tea)
    refused = await client.delete(path(tea.id))
    assert (refused.status_code, refused.json()["detail"]) == (409, "orders name this product")


async def test_a_sku_is_taken_once(client: httpx.AsyncClient, admin: User) -> None:
    answers = [await client.post(PRODUCTS, json=TEA) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 409]
    assert answers[1].json()["detail"] == "another product has this sku"


async def test_everybody_reads_and_nobody_but_an_admin_writes(
    client: httpx.AsyncClient, session: AsyncSession, sign_in: SignIn
) -> None:
    tea = await make_product(session)
    writes = [("POST", PRODUCTS, TEA), ("PATCH", path(tea.id), {}), ("DELETE", path(tea.id), None)]
    for user, status in ((None, 401), (await make_user(session), 403)):
        sign_in(user)
        for method, url, body in writes:
            refused = await client.request(method, url, json=body, headers={"if-match": "*"})
            assert refused.status_code == status
        assert [each["sku"] for each in (await client.get(PRODUCTS)).json()] == [tea.sku]


async def test_a_key_of_an_admin_writes_if_it_has_the_scope(
    app: FastAPI, client: httpx.AsyncClient, session: AsyncSession
) -> None:
    admin = await make_user(session, role=Role.ADMIN)
    for scope, status in ((Scope.ORDERS_WRITE, 403), (Scope.PRODUCTS_WRITE, 201)):
        speak_as(app, Principal(admin.id, Role.ADMIN, frozenset({scope}), uuid4()))
        assert (await client.post(PRODUCTS, json=TEA)).status_code == status


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("price_cents", -1),
        ("price_cents", 10**11 + 1),
        ("price_cents", 10**400),
        ("price_cents", 4.5),
        ("price_cents", "450"),
        ("price_cents", True),
        ("stock", 2**63),
        ("stock", None),
        ("name", "nul\x00byte"),
        ("name", "\x1b[31mred"),
        ("name", "x" * 201),
        ("name", ""),
        ("name", "   "),
        ("name", "\u200e\u2067"),
        ("sku", "a b"),
        ("sku", "../../etc/passwd"),
        ("sku", "x" * 65),
        ("id", "00000000-0000-4000-8000-000000000001"),
        ("version", 7),
    ],
)
async def test_a_malformed_product_is_refused_by_field(
    client: httpx.AsyncClient, admin: User, field: str, value: object
) -> None:
    refused = await client.post(PRODUCTS, json=TEA | {field: value})
    assert refused.status_code == 422
    assert [each["field"] for each in refused.json()["errors"]] == [f"body.{field}"]


async def test_not_a_number_is_no_price(client: httpx.AsyncClient, admin: User) -> None:
    for number in ("NaN", "Infinity", "-Infinity", "1e999"):
        body = f'{{"sku": "tea", "name": "Tea", "price_cents": {number}}}'
        refused = await client.post(
            PRODUCTS, content=body, headers={"content-type": "application/json"}
        )
        assert refused.status_code == 422, refused.text
        assert refused.json()["errors"][0]["field"] == "body.price_cents"


@pytest.mark.parametrize("product_id", ["x", "..%5c..", "%00", "1" * 5000])
async def test_a_malformed_id_is_refused_by_name(
    client: httpx.AsyncClient, product_id: str
) -> None:
    refused = await client.get(path(product_id))
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "path.product_id"
