"""The real flow: register, sign in, refresh and sign out, with real tokens."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx
import jwt
import pytest
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.access import Role
from orders.core.opaque import hash_secret
from orders.models import RefreshToken, User
from tests.orders.conftest import BASE_URL
from tests.orders.factories import PASSWORD, make_user

BROWSER = {"x-refresh-mode": "cookie", "origin": BASE_URL}
COOKIE = "__Secure-refresh"
LONG = timedelta(days=15)


async def login(
    client: httpx.AsyncClient, user: User, password: str = PASSWORD, **headers: str
) -> httpx.Response:
    form = {"username": user.email, "password": password}
    return await client.post("/api/v1/auth/login", data=form, headers=headers)


async def signed_in(client: httpx.AsyncClient, user: User) -> dict[str, Any]:
    answer = await login(client, user)
    assert answer.status_code == 200, answer.text
    tokens: dict[str, Any] = answer.json()
    return tokens


async def refresh(client: httpx.AsyncClient, tokens: dict[str, Any]) -> httpx.Response:
    body = {"refresh_token": tokens["refresh_token"]}
    return await client.post("/api/v1/auth/refresh", json=body)


async def me(client: httpx.AsyncClient, tokens: dict[str, Any]) -> httpx.Response:
    return await client.get("/api/v1/auth/me", headers=bearer(tokens))


def bearer(tokens: dict[str, Any]) -> dict[str, str]:
    return {"authorization": f"Bearer {tokens['access_token']}"}


@pytest.mark.parametrize(
    "content_type",
    ["", "application/json", "text/plain", f"multipart/form-data; boundary=x; a={';' * 1000}"],
)
async def test_what_is_no_plain_form_is_refused_before_it_is_read(
    client: httpx.AsyncClient, content_type: str
) -> None:
    answer = await client.post(
        "/api/v1/auth/login", content=b"{}", headers={"content-type": content_type}
    )
    assert answer.status_code == 415, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


async def test_who_registers_can_sign_in_and_is_who_they_said(client: httpx.AsyncClient) -> None:
    wanted = {"email": "Ann@Example.ORG", "name": " Ann ", "password": PASSWORD}
    registered = await client.post("/api/v1/auth/register", json=wanted)
    assert registered.status_code == 201
    ann = registered.json()
    assert (ann["email"], ann["name"], ann["role"]) == ("ann@example.org", "Ann", "customer")
    form = {"grant_type": "password", "username": "ANN@example.org", "password": PASSWORD}
    answer = await client.post("/api/v1/auth/login", data=form)
    assert answer.headers["cache-control"] == "no-store"
    assert (answer.json()["token_type"], answer.json()["expires_in"]) == ("bearer", 900)
    told = (await me(client, answer.json())).json()
    assert (ann.pop("last_login_at"), bool(told.pop("last_login_at"))) == (None, True)
    assert told == ann


@pytest.mark.parametrize(
    "address",
    ["  Ann@Example.ORG ", "ann@xn--bcher-kva.example.org", "jose\u0301@example.org"],
    ids=["spaces and capitals", "punycode", "decomposed"],
)
async def test_whoever_registered_an_address_signs_in_with_it_as_it_was_written(
    client: httpx.AsyncClient, address: str
) -> None:
    body = {"email": address, "name": "Ann", "password": PASSWORD}
    assert (await client.post("/api/v1/auth/register", json=body)).status_code == 201
    form = {"username": address, "password": PASSWORD}
    assert (await client.post("/api/v1/auth/login", data=form)).status_code == 200


async def test_nobody_can_register_as_an_admin(client: httpx.AsyncClient) -> None:
    wanted = {"email": "a@example.org", "name": "A", "password": PASSWORD, "role": "admin"}
    answer = await client.post("/api/v1/auth/register", json=wanted)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "body.role"


async def test_an_access_token_carries_the_claims_and_lives_fifteen_minutes(
    client: httpx.AsyncClient, session: AsyncSession
) -> None:
    ann = await make_user(session)
    token = (await signed_in(client, ann))["access_token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    assert {*claims} >= {"sub", "iat", "exp", "nbf", "jti", "type", "iss", "aud", "role"}
    assert (claims["sub"], claims["type"], claims["role"]) == (str(ann.id), "access", "customer")
    assert claims["exp"] - claims["iat"] == 15 * 60


async def test_a_wrong_password_an_unknown_and_a_deactivated_user_are_told_the_same(
    client: httpx.AsyncClient, session: AsyncSession
) -> None:
    ann, gone = await make_user(session), await make_user(session, is_active=False)
    stranger = User(email="nobody@example.org")
    answers = [
        await login(client, ann, "not the password"),
        await login(client, stranger),
        await login(client, gone),
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1
    assert answers[0].headers["www-authenticate"] == "Bearer"


async def test_an_unknown_user_costs_one_argon2_like_any_other(
    client: httpx.AsyncClient, session: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify = PasswordHash.verify_and_update
    verified: list[str] = []

    def counted(self: PasswordHash, password: str, hashed: str) -> tuple[bool, str | None]:
        verified.append(hashed.rpartition("$")[0].rpartition("$")[0])  # the parameters
        return verify(self, password, hashed)

    monkeypatch.setattr(PasswordHash, "verify_and_update", counted)
    await login(client, await make_user(session), "not the password")
    await login(client, User(email="nobody@example.org"))
    known, unknown = verified
    assert known == unknown


@pytest.mark.usefixtures("costly_passwords")
async def test_a_hash_with_older_parameters_is_replaced_at_the_next_login(
    client: httpx.AsyncClient, session: AsyncSession
) -> None:
    older = Argon2Hasher(memory_cost=1024, time_cost=1, parallelism=1).hash(PASSWORD)
    ann = await make_user(session, password_hash=older)
    await signed_in(client, ann)
    await session.refresh(ann)
    assert "m=19456" in ann.password_hash
    await signed_in(client, ann)


async def test_a_refresh_gives_new_tokens_and_uses_the_old_one_up(
    client: httpx.AsyncClient, session: AsyncSession
) -> None:
    first = await signed_in(client, await make_user(session))
    second = (await refresh(client, first)).json()
    third = (await refresh(client, second)).json()
    assert len({tokens["refresh_token"] for tokens in (first, second, third)}) == 3
    assert (await me(client, third)).status_code == 200


async def test_a_refresh_token_used_twice_revokes_all_that_came_from_its_login_and_no_other(
    client: httpx.AsyncClient, session: AsyncSession
) -> None:
    ann = await make_user(session)
    elsewhere = await signed_in(client, ann)
    first = await signed_in(client, ann)
    second = (await refresh(client, first)).json()
    replayed = await refresh(client, first)
    assert replayed.status_code == 401
    assert replayed.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    assert (await refresh(client, second)).status_code == 401
    assert (await refresh(client, elsewhere)).status_code == 200


async def test_only_the_hash_of_a_refresh_token_is_stored(
    client: httpx.AsyncClient, session: AsyncSession
) -> None:
    token = (await signed_in(client, await make_user(session)))["refresh_token"]
    stored = (await session.scalars(select(RefreshToken.token_hash))).all()
    assert hash_secret(token) in stored
    assert token.encode() not in stored


async def test_an_expired_an_unknown_and_an_access_token_do_not_refresh(
    client: httpx.AsyncClient, session: AsyncSession
) -> None:
    tokens = await signed_in(client, await make_user(session))
    unknown = await refresh(client, {"refresh_token": "A" * 43})
    assert unknown.status_code == 401
    access = await refresh(client, {"refresh_token": tokens["access_token"]})
    assert access.status_code == 422
    await session.execute(update(RefreshToken).values(expires_at=RefreshToken.expires_at - LONG))
    await session.commit()
    assert (await refresh(client, tokens)).status_code == 401


async def test_signing_out_ends_this_login_and_says_the_same_of_an_unknown_token(
    client: httpx.AsyncClient, session: AsyncSession
) -> None:
    ann = await make_user(session)
    here, elsewhere = await signed_in(client, ann), await signed_in(client, ann)
    for token in (here["refresh_token"], "A" * 43):
        left = await client.post("/api/v1/auth/logout", json={"refresh_token": token})
        assert (left.status_code, left.content) == (204, b"")
    assert (await refresh(client, here)).status_code == 401
    assert (await refresh(client, elsewhere)).status_code == 200


async def test_signing_out_everywhere_refuses_every_token_at_once(
    client: httpx.AsyncClient, session: AsyncSession
) -> None:
    ann = await make_user(session)
    here, elsewhere = await signed_in(client, ann), await signed_in(client, ann)
    left = await client.post("/api/v1/auth/logout-everywhere", headers=bearer(here))
    assert left.status_code == 204
    for tokens in (here, elsewhere):
        assert (await me(client, tokens)).status_code == 401
        assert (await refresh(client, tokens)).status_code == 401
    assert (await me(client, await signed_in(client, ann))).status_code == 200


@pytest.mark.parametrize(
    "change",
    [{"is_active": False}, {"role": "admin"}, {"password": "another long password"}],
    ids=lambda change: next(iter(change)),
)
async def test_a_change_of_standing_by_an_admin_takes_effect_on_tokens_at_once(
    client: httpx.AsyncClient, session: AsyncSession, change: dict[str, Any]
) -> None:
    ann = await make_user(session)
    tokens = await signed_in(client, ann)
    admin = await signed_in(client, await make_user(session, role=Role.ADMIN))
    changed = await client.patch(f"/api/v1/users/{ann.id}", json=change, headers=bearer(admin))
    assert changed.status_code == 200, changed.text
    assert (await me(client, tokens)).status_code == 401
    assert (await refresh(client, tokens)).status_code == 401


async def test_a_user_deactivated_by_whatever_means_is_refused_at_once(
    client: httpx.AsyncClient, session: AsyncSession
) -> None:
    ann = await make_user(session)
    tokens = await signed_in(client, ann)
    ann.is_active = False
    await session.commit()
    assert (await me(client, tokens)).status_code == 401
    assert (await refresh(client, tokens)).status_code == 401


async def test_a_deleted_user_is_a_stranger_at_once(
    client: httpx.AsyncClient, session: AsyncSession
) -> None:
    ann = await make_user(session)
    tokens = await signed_in(client, ann)
    left = await client.delete(f"/api/v1/users/{ann.id}", headers=bearer(tokens))
    assert left.status_code == 204
    assert (await me(client, tokens)).status_code == 401
    assert (await refresh(client, tokens)).status_code == 401


async def test_a_browser_keeps_the_refresh_token_where_no_script_can_read_it(
    client: httpx.AsyncClient, session: AsyncSession
) -> None:
    ann = await make_user(session)
    answer = await login(client, ann, **BROWSER)
    assert answer.json()["refresh_token"] is None
    cookie = answer.headers["set-cookie"]
    for attribute in ("HttpOnly", "Secure", "SameSite=strict", "Path=/api/v1/auth", "Max-Age=1209"):
        assert attribute in cookie
    first = client.cookies[COOKIE]
    refreshed = await client.post("/api/v1/auth/refresh", headers=BROWSER)
    assert refreshed.status_code == 200
    assert client.cookies[COOKIE] != first
    left = await client.post("/api/v1/auth/logout", headers=BROWSER)
    assert left.status_code == 204
    assert COOKIE not in client.cookies
    assert (await client.post("/api/v1/auth/refresh", headers=BROWSER)).status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-refresh-mode": "cookie", "origin": "https://evil.example.org"}, 403),
        ({"x-refresh-mode": "cookie", "origin": "null"}, 403),
        ({"x-refresh-mode": "cookie"}, 403),
        ({"origin": BASE_URL}, 401),  # a form cannot send the header: the cookie is not read
        ({"x-refresh-mode": "on", "origin": BASE_URL}, 422),
    ],
)
async def test_the_cookie_answers_no_page_but_our_own(
    client: httpx.AsyncClient, session: AsyncSession, headers: dict[str, str], status: int
) -> None:
    await login(client, await make_user(session), **BROWSER)
    for path in ("refresh", "logout"):
        foreign = await client.post(f"/api/v1/auth/{path}", headers=headers)
        assert foreign.status_code == status, foreign.text
    assert (await client.post("/api/v1/auth/refresh", headers=BROWSER)).status_code == 200


async def test_an_invalid_token_is_refused_where_a_stranger_would_be_served(
    client: httpx.AsyncClient,
) -> None:
    assert (await client.get("/api/v1/products")).status_code == 200
    forged = {"authorization": "Bearer forged.token.here"}
    assert (await client.get("/api/v1/products", headers=forged)).status_code == 401
