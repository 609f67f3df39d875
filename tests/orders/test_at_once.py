"""Requests that race, with real commits: the database decides, not luck."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from orders.core.access import Role
from orders.core.errors import BusyError
from orders.core.passwords import Passwords
from orders.models import RefreshFamily, RefreshToken, User
from tests.orders.conftest import Live, Start
from tests.orders.factories import PASSWORD, make_user


async def test_of_two_refreshes_racing_with_one_token_one_wins_and_its_family_is_revoked(
    live: Live,
) -> None:
    async with live.sessions() as session:
        ann = await make_user(session)
    for _ in range(5):
        first = (await login(live, ann)).json()
        answers = await asyncio.gather(*(refresh(live, first) for _ in range(6)))
        assert sorted(answer.status_code for answer in answers) == [200] + [401] * 5
        (winner,) = (answer.json() for answer in answers if answer.status_code == 200)
        assert (await refresh(live, winner)).status_code == 401
    async with live.sessions() as session:
        families = (await session.scalars(select(RefreshFamily))).all()
        tokens = (await session.scalars(select(RefreshToken))).all()
    # The revocation was committed, although it was answered with an error.
    assert all(family.revoked_at for family in families)
    assert len(tokens) == 2 * 5


async def test_of_six_who_register_one_address_at_once_one_gets_it(live: Live) -> None:
    wanted = {"email": "ann@example.org", "name": "Ann", "password": PASSWORD}
    answers = await asyncio.gather(
        *(live.client.post("/api/v1/auth/register", json=wanted) for _ in range(6))
    )
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 5
    refused = [answer.json() for answer in answers if answer.status_code == 409]
    assert {problem["detail"] for problem in refused} == {"another user has this e-mail address"}


async def test_of_admins_who_all_leave_at_once_one_is_kept(live: Live) -> None:
    for _ in range(3):
        async with live.sessions() as session:
            admins = [await make_user(session, role=Role.ADMIN) for _ in range(4)]
        tokens = [live.app.state.tokens.issue(each.id, Role.ADMIN, 0) for each in admins]
        changes = [{"role": "customer"}, {"is_active": False}, None, {"role": "customer"}]
        answers = await asyncio.gather(
            *(
                live.client.request(
                    "PATCH" if change else "DELETE",
                    f"/api/v1/users/{admin.id}",
                    json=change,
                    headers={"authorization": f"Bearer {token}"},
                )
                for admin, token, change in zip(admins, tokens, changes, strict=True)
            )
        )
        assert sorted(answer.status_code for answer in answers)[3] == 409
        async with live.sessions() as session:
            left = select(User).where(User.role == Role.ADMIN, User.is_active)
            (kept,) = (await session.scalars(left)).all()
            await session.delete(kept)
            await session.commit()


async def test_a_login_that_overlaps_with_signing_out_everywhere_gives_nothing_of_use(
    live: Live,
) -> None:
    async with live.sessions() as session:
        ann = await make_user(session)
    held = Held(live)
    live.app.state.passwords = held
    here = asyncio.create_task(login(live, ann))
    await held.verified.wait()
    await sign_out_everywhere(live, ann)
    held.go_on.set()
    tokens = (await here).json()
    assert (await refresh(live, tokens)).status_code == 401
    headers = {"authorization": f"Bearer {tokens['access_token']}"}
    assert (await live.client.get("/api/v1/auth/me", headers=headers)).status_code == 401


async def test_no_connection_is_held_while_a_password_is_hashed(start: Start) -> None:
    live = start(database_pool_size=1, database_pool_timeout=5)
    async with live.sessions() as session:
        ann, admin = await make_user(session), await make_user(session, role=Role.ADMIN)
    held = Held(live)
    live.app.state.passwords = held
    here = asyncio.create_task(login(live, ann))
    await held.verified.wait()
    assert (await live.client.get("/api/v1/products")).status_code == 200
    held.go_on.set()
    assert (await here).status_code == 200
    for who, change in (
        (ann, {"password": "a new passphrase", "current_password": PASSWORD}),
        (admin, {"password": "yet another passphrase"}),
    ):
        token = live.app.state.tokens.issue(who.id, Role(who.role), 0)
        changed = await live.client.patch(
            f"/api/v1/users/{ann.id}", json=change, headers={"authorization": f"Bearer {token}"}
        )
        assert changed.status_code == 200, changed.text
    assert held.connections == [0, 0, 0, 0]


@pytest.mark.usefixtures("costly_passwords")
async def test_the_loop_turns_while_passwords_are_hashed_a_few_at_a_time() -> None:
    passwords = Passwords(2)
    hashing = [asyncio.create_task(passwords.hash(PASSWORD)) for _ in range(6)]
    turns, most = 0, 0
    while not all(task.done() for task in hashing):
        await asyncio.sleep(0.001)
        turns += 1
        workers = [each for each in threading.enumerate() if "AnyIO worker" in each.name]
        most = max(most, len(workers))
    assert turns > 6
    assert most == 2
    assert len({task.result() for task in hashing}) == 6


@pytest.mark.usefixtures("costly_passwords")
async def test_too_many_waiting_for_a_hash_are_told_to_come_again() -> None:
    passwords = Passwords(1)
    answers = await asyncio.gather(
        *(passwords.hash(PASSWORD) for _ in range(55)), return_exceptions=True
    )
    assert sum(isinstance(answer, BusyError) for answer in answers) == 4
    assert await passwords.hash(PASSWORD)


class Held(Passwords):
    """Passwords that wait to be told, and look what the database's pool lends meanwhile."""

    def __init__(self, live: Live) -> None:
        super().__init__(1)
        engine: AsyncEngine = live.sessions.kw["bind"]
        self._pool: Any = engine.pool
        self.connections: list[int] = []
        self.verified, self.go_on = asyncio.Event(), asyncio.Event()

    async def verify(self, password: str, stored: str | None) -> tuple[bool, str | None]:
        self.connections.append(self._pool.checkedout())
        answer = await super().verify(password, stored)
        self.verified.set()
        await self.go_on.wait()
        return answer

    async def hash(self, password: str) -> str:
        self.connections.append(self._pool.checkedout())
        return await super().hash(password)


async def login(live: Live, user: User) -> httpx.Response:
    form = {"username": user.email, "password": PASSWORD}
    return await live.client.post("/api/v1/auth/login", data=form)


async def refresh(live: Live, tokens: dict[str, Any]) -> httpx.Response:
    body = {"refresh_token": tokens["refresh_token"]}
    return await live.client.post("/api/v1/auth/refresh", json=body)


async def sign_out_everywhere(live: Live, user: User) -> None:
    token = live.app.state.tokens.issue(user.id, user.role, user.token_version)
    left = await live.client.post(
        "/api/v1/auth/logout-everywhere", headers={"authorization": f"Bearer {token}"}
    )
    assert left.status_code == 204, left.text
