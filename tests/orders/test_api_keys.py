"""API keys: shown once, good for their scopes, and taken back at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from orders.api.deps import CurrentUser, allow
from orders.core import errors
from orders.core.access import Principal, Scope
from orders.core.opaque import ApiKey as Key
from orders.models import ApiKey, User
from tests.orders.conftest import SignIn, client_of
from tests.orders.factories import api_key, make_user

Reader = Annotated[Principal, allow(Scope.ORDERS_READ)]
Writer = Annotated[Principal, allow(Scope.ORDERS_READ, Scope.ORDERS_WRITE)]


@pytest.fixture
async def machine(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of routes that ask for scopes, beside the service's own."""
    probe = FastAPI()
    for name in ("settings", "sessions", "readers", "lookups", "tokens"):
        setattr(probe.state, name, getattr(app.state, name))
    errors.install(probe, {})

    @probe.get("/read")
    async def read(who: Reader) -> str:
        return str(who.user_id)

    @probe.get("/write")
    async def write(who: Writer) -> str:
        return str(who.user_id)

    @probe.get("/person")
    async def person(who: CurrentUser) -> str:
        return str(who.user_id)

    async with client_of(probe) as client:
        yield client


@pytest.fixture
async def ann(session: AsyncSession) -> User:
    return await make_user(session)


async def made(client: httpx.AsyncClient, *scopes: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    answer = await client.post("/api/v1/api-keys", json=api_key(*scopes, **more))
    assert answer.status_code == 201, answer.text
    key: dict[str, Any] = answer.json()
    return key


def sent(key: dict[str, Any]) -> dict[str, str]:
    return {"x-api-key": key["key"]}


async def test_a_key_is_shown_once_and_stored_as_a_hash(
    client: httpx.AsyncClient, session: AsyncSession, sign_in: SignIn, ann: User
) -> None:
    sign_in(ann)
    key = await made(client, "orders:read")
    listed = await client.get("/api/v1/api-keys")
    secret = key["key"].split("_", 2)[2]
    assert secret not in listed.text
    (entry,) = listed.json()
    assert (entry["id"], entry["scopes"], entry["prefix"]) == (
        key["id"],
        ["orders:read"],
        key["key"].split("_")[1],
    )
    stored = (await session.scalars(select(ApiKey.key_hash))).one()
    assert secret.encode() not in stored
    assert len(stored) == 32


async def test_a_key_opens_what_its_scopes_name_and_nothing_that_is_a_persons(
    client: httpx.AsyncClient, machine: httpx.AsyncClient, sign_in: SignIn, ann: User
) -> None:
    sign_in(ann)
    key = await made(client, "orders:read")
    assert (await machine.get("/read", headers=sent(key))).json() == str(ann.id)
    refused = await machine.get("/write", headers=sent(key))
    assert (refused.status_code, refused.json()["detail"]) == (
        403,
        "the API key lacks the scope orders:write",
    )
    assert (await machine.get("/person", headers=sent(key))).status_code == 403
    both = await made(client, "orders:read", "orders:write")
    assert (await machine.get("/write", headers=sent(both))).status_code == 200
    assert (await machine.get("/read")).status_code == 401


async def test_a_revoked_an_expired_and_an_unknown_key_and_one_of_a_deactivated_user_are_refused(
    client: httpx.AsyncClient,
    machine: httpx.AsyncClient,
    session: AsyncSession,
    sign_in: SignIn,
    ann: User,
) -> None:
    sign_in(ann)
    keys = [await made(client, "orders:read") for _ in range(2)]
    later = datetime.now(UTC) + timedelta(hours=1)
    keys.append(await made(client, "orders:read", expires_at=later.isoformat()))
    for key in keys:
        assert (await machine.get("/read", headers=sent(key))).status_code == 200
    revoked, of_deactivated, expired = keys
    assert (await client.delete(f"/api/v1/api-keys/{revoked['id']}")).status_code == 204
    stored = await session.get(ApiKey, expired["id"])
    assert stored
    stored.expires_at = datetime.now(UTC) - timedelta(hours=1)
    await session.commit()
    forged = {"key": of_deactivated["key"][:-1] + "!"}
    for key in (revoked, expired, forged, {"key": "hunter2"}, {"key": ""}, {"key": str(Key.new())}):
        answer = await machine.get("/read", headers=sent(key))
        assert answer.status_code == 401
    assert (await machine.get("/read", headers=sent(of_deactivated))).status_code == 200
    ann.is_active = False
    await session.commit()
    assert (await machine.get("/read", headers=sent(of_deactivated))).status_code == 401


@pytest.mark.parametrize(
    "moment",
    ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+14:00", "2026-01-02T03:04:05Z"],
)
async def test_a_key_that_would_never_or_always_be_expired_is_refused(
    client: httpx.AsyncClient, sign_in: SignIn, ann: User, moment: str
) -> None:
    sign_in(ann)
    wanted = api_key("orders:read", expires_at=moment)
    answer = await client.post("/api/v1/api-keys", json=wanted)
    assert answer.status_code == 422
    assert "this moment" in answer.text


async def test_a_key_takes_the_password_and_outlives_a_logout_everywhere(
    client: httpx.AsyncClient, machine: httpx.AsyncClient, sign_in: SignIn, ann: User
) -> None:
    sign_in(ann)
    wanted = api_key("orders:read", current_password="not the password")
    refused = await client.post("/api/v1/api-keys", json=wanted)
    assert (refused.status_code, refused.json()["detail"]) == (
        403,
        "current_password is not your password",
    )
    key = await made(client, "orders:read")
    assert (await client.post("/api/v1/auth/logout-everywhere")).status_code == 204
    assert (await machine.get("/read", headers=sent(key))).status_code == 200


async def test_nobody_revokes_the_key_of_another(
    client: httpx.AsyncClient, session: AsyncSession, sign_in: SignIn, ann: User
) -> None:
    sign_in(ann)
    key = await made(client, "orders:read")
    sign_in(await make_user(session))
    refused = await client.delete(f"/api/v1/api-keys/{key['id']}")
    assert refused.status_code == 404
    assert (await client.get("/api/v1/api-keys")).json() == []


@pytest.mark.parametrize(
    "change",
    [
        {"scopes": []},
        {"scopes": ["everything"]},
        {"name": ""},
        {"name": " \u200f\u2800 "},
        {"expires_at": "soon"},
        {"current_password": None},
    ],
)
async def test_a_malformed_key_is_refused(
    client: httpx.AsyncClient, sign_in: SignIn, ann: User, change: dict[str, Any]
) -> None:
    sign_in(ann)
    wanted = api_key("orders:read") | change
    refused = await client.post("/api/v1/api-keys", json=wanted)
    assert refused.status_code == 422
    (name,) = change
    assert refused.json()["errors"][0]["field"].startswith(f"body.{name}")
