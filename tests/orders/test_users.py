"""Users as a resource: everybody over themselves, an admin over all."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.access import Role
from orders.models import User
from tests.orders.conftest import SignIn
from tests.orders.factories import PASSWORD, make_user


def path(user: User) -> str:
    return f"/api/v1/users/{user.id}"


@pytest.fixture
async def ann(session: AsyncSession) -> User:
    return await make_user(session, email="ann@example.org", name="Ann")


@pytest.fixture
async def admin(session: AsyncSession) -> User:
    return await make_user(session, email="root@example.org", name="Zoe", role=Role.ADMIN)


async def test_an_admin_lists_searches_and_sorts(
    client: httpx.AsyncClient, session: AsyncSession, sign_in: SignIn, admin: User, ann: User
) -> None:
    await make_user(session, email="bob@example.net", name="100% Bob")
    sign_in(admin)

    async def names(**query: Any) -> list[str]:  # noqa: ANN401 - any parameter
        answer = await client.get("/api/v1/users", params=query)
        assert answer.status_code == 200, answer.text
        return [user["name"] for user in answer.json()["items"]]

    assert await names() == ["Ann", "100% Bob", "Zoe"]
    assert await names(sort="-email") == ["Zoe", "100% Bob", "Ann"]
    assert await names(search="EXAMPLE.org") == ["Ann", "Zoe"]
    assert await names(search="%") == ["100% Bob"]
    assert await names(search="_") == []
    assert await names(limit=1, offset=1) == ["100% Bob"]
    page = (await client.get("/api/v1/users", params={"limit": 1})).json()
    assert page["total"] == 3
    assert {*page["items"][0]} == {
        *("id", "email", "name", "role", "is_active", "last_login_at", "created_at")
    }


async def test_nobody_else_lists(client: httpx.AsyncClient, sign_in: SignIn, ann: User) -> None:
    sign_in(ann)
    refused = await client.get("/api/v1/users")
    assert (refused.status_code, refused.json()["detail"]) == (403, "this takes the role admin")
    sign_in(None)
    refused = await client.get("/api/v1/users")
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")


async def test_everybody_reads_changes_and_deletes_themselves(
    client: httpx.AsyncClient, sign_in: SignIn, ann: User
) -> None:
    sign_in(ann)
    assert (await client.get(path(ann))).json()["email"] == "ann@example.org"
    changed = await client.patch(path(ann), json={"name": "Anne"})
    assert (changed.json()["name"], changed.json()["email"]) == ("Anne", "ann@example.org")
    gone = await client.delete(path(ann))
    assert (gone.status_code, gone.content) == (204, b"")
    missing = await client.get(path(ann))
    assert (missing.status_code, missing.json()["detail"]) == (404, f"there is no user {ann.id}")


async def test_nobody_touches_others_whether_they_exist_or_not(
    client: httpx.AsyncClient, sign_in: SignIn, ann: User, admin: User
) -> None:
    sign_in(ann)
    nobody = User(id=uuid4())
    answers = [
        await client.request(method, path(other), json=body)
        for other in (admin, nobody)
        for method, body in (("GET", None), ("PATCH", {"name": "X"}), ("DELETE", None))
    ]
    assert {(answer.status_code, answer.json()["detail"]) for answer in answers} == {
        (403, "this is another user")
    }


async def test_an_admin_changes_and_deletes_anybody(
    client: httpx.AsyncClient, sign_in: SignIn, ann: User, admin: User
) -> None:
    sign_in(admin)
    change = {"role": "admin", "is_active": False, "email": "A@example.org"}
    changed = (await client.patch(path(ann), json=change)).json()
    assert (changed["role"], changed["is_active"]) == ("admin", False)
    assert changed["email"] == "a@example.org"
    assert (await client.delete(path(ann))).status_code == 204
    assert (await client.delete(path(ann))).status_code == 404
    assert (await client.patch(path(ann), json={"name": "X"})).status_code == 404


@pytest.mark.parametrize("change", [{"role": "customer"}, {"is_active": False}, None])
async def test_the_last_active_admin_stays_one(
    client: httpx.AsyncClient,
    session: AsyncSession,
    sign_in: SignIn,
    admin: User,
    *,
    change: object,
) -> None:
    asleep = await make_user(session, role=Role.ADMIN, is_active=False)
    sign_in(admin)

    async def leave() -> int:
        method = "PATCH" if change else "DELETE"
        answer = await client.request(method, path(admin), json=change)
        return answer.status_code

    assert await leave() == 409
    same = await client.patch(path(admin), json={"role": "admin", "name": "Zoe II"})
    assert (same.status_code, same.json()["role"]) == (200, "admin")
    assert (await client.patch(path(asleep), json={"is_active": True})).status_code == 200
    assert await leave() in {200, 204}


@pytest.mark.parametrize("change", [{"role": "admin"}, {"is_active": True}])
async def test_nobody_raises_their_own_standing(
    client: httpx.AsyncClient, sign_in: SignIn, ann: User, change: dict[str, Any]
) -> None:
    sign_in(ann)
    assert (await client.patch(path(ann), json=change)).status_code == 403


@pytest.mark.parametrize("change", [{"email": "b@example.org"}, {"password": "a new passphrase"}])
async def test_one_changes_what_one_signs_in_with_by_saying_the_password_of_now(
    client: httpx.AsyncClient, sign_in: SignIn, ann: User, change: dict[str, str]
) -> None:
    sign_in(ann)
    for current in ({}, {"current_password": "not the password"}):
        assert (await client.patch(path(ann), json=change | current)).status_code == 403
    current = {"current_password": PASSWORD}
    assert (await client.patch(path(ann), json=change | current)).status_code == 200
    form = {"username": "ann@example.org", "password": PASSWORD} | {
        {"email": "username"}.get(name, name): value for name, value in change.items()
    }
    assert (await client.post("/api/v1/auth/login", data=form)).status_code == 200


async def test_an_address_belongs_to_one_user_however_it_is_written(
    client: httpx.AsyncClient, sign_in: SignIn, ann: User, admin: User
) -> None:
    sign_in(admin)
    taken = await client.patch(path(admin), json={"email": ann.email, "current_password": PASSWORD})
    assert taken.status_code == 409
    wanted = {"email": "ANN@Example.Org", "name": "Ann", "password": PASSWORD}
    taken = await client.post("/api/v1/auth/register", json=wanted)
    assert taken.status_code == 409
    assert taken.json()["detail"] == "another user has this e-mail address"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "   "),
        ("name", "\u3164\u0301"),
        ("name", "x" * 101),
        ("name", "nul\x00byte"),
        ("name", "\x1b[31mred"),
        ("name", None),
        ("name", 10**400),
        ("email", "ann"),
        ("email", "ann@example.org\x00"),
        ("email", "ann@example.org, bob@example.org"),
        ("email", f"{'a' * 300}@example.org"),
        ("password", "too short"),
        ("password", "x" * 257),
        ("password", ["x" * 20]),
    ],
)
async def test_a_malformed_user_is_refused_by_field_and_no_value_is_repeated(
    client: httpx.AsyncClient, field: str, value: object
) -> None:
    body = {"email": "ann@example.org", "name": "Ann", "password": PASSWORD, field: value}
    refused = await client.post("/api/v1/auth/register", json=body)
    assert refused.status_code == 422
    (error,) = refused.json()["errors"]
    assert error["field"] == f"body.{field}"
    assert error["reason"]
    assert PASSWORD not in refused.text
    assert "too short" not in refused.text
    assert "xxxxxxxx" not in refused.text


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=101", "offset=-1", f"offset={10**30}", "sort=password_hash", "search=%00"],
)
async def test_a_malformed_list_is_refused_by_parameter(
    client: httpx.AsyncClient, sign_in: SignIn, admin: User, query: str
) -> None:
    sign_in(admin)
    refused = await client.get(f"/api/v1/users?{query}")
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == f"query.{query.partition('=')[0]}"


@pytest.mark.parametrize("form", [{"username": "a\x00b", "password": "x"}, {"username": "ann"}])
async def test_a_malformed_login_is_refused_by_field(
    client: httpx.AsyncClient, form: dict[str, str]
) -> None:
    refused = await client.post("/api/v1/auth/login", data=form)
    assert refused.status_code == 422
    long = {"username": "ann@example.org", "password": "x" * 10_000}
    assert (await client.post("/api/v1/auth/login", data=long)).status_code == 422
