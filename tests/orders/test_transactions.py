"""The one boundary: all that a block wrote, or nothing of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.database import transaction
from orders.models import User
from tests.orders.conftest import Live
from tests.orders.factories import make_user


async def count(live: Live) -> int:
    async with live.sessions() as session:
        return await session.scalar(select(func.count()).select_from(User)) or 0


def user(email: str) -> User:
    return User(email=email, name="Ann", password_hash="x")


async def write(session: AsyncSession, *, and_then: Callable[[], Awaitable[None]]) -> None:
    async with transaction(session):
        session.add(user("a@example.org"))
        await session.flush()
        await and_then()


async def fail() -> None:
    raise LookupError


async def test_a_block_commits_what_it_wrote_and_a_second_one_may_follow(live: Live) -> None:
    async with live.sessions() as session:
        assert await session.scalar(select(func.count()).select_from(User)) == 0  # begins by itself
        for email in ("a@example.org", "b@example.org"):
            async with transaction(session):
                session.add(user(email))
            assert not session.in_transaction()
    assert await count(live) == 2


async def test_a_block_that_raises_leaves_nothing(live: Live) -> None:
    async with live.sessions() as session:
        with pytest.raises(LookupError):
            await write(session, and_then=fail)
        assert not session.in_transaction()
        async with transaction(session):
            session.add(user("b@example.org"))
    assert await count(live) == 1


async def test_a_block_inside_a_block_is_a_mistake_and_named_as_one(live: Live) -> None:
    async with live.sessions() as session:
        await make_user(session)
        with pytest.raises(RuntimeError, match="a transaction block is open on this session"):
            await write(session, and_then=lambda: write(session, and_then=fail))
    assert await count(live) == 1
