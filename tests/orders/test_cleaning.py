"""What a worker throws away by the clock, and what it keeps."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.database import Sessions
from orders.models import IdempotencyKey, RefreshToken
from orders.repositories import refresh_tokens
from orders.tasks import housekeeping
from orders.tasks.cleaning import PRUNES
from orders.tasks.housekeeping import clean
from tests.orders.conftest import Live
from tests.orders.factories import make_user

HOUR = timedelta(hours=1)


async def family(session: AsyncSession, user_id: UUID, *lifetimes: timedelta) -> None:
    made = await refresh_tokens.add_family(session, user_id, 0)
    for lifetime in lifetimes:
        await refresh_tokens.add(session, str((made, lifetime)).encode(), made, lifetime)


async def count(session: AsyncSession, table: str) -> int:
    return int(await session.scalar(text(f"SELECT count(*) FROM {table}")) or 0)  # noqa: S608


async def test_expired_refresh_tokens_go_and_families_with_their_last_one(
    sessions: Sessions, session: AsyncSession
) -> None:
    ann = await make_user(session)
    await family(session, ann.id, -HOUR, -2 * HOUR)
    await family(session, ann.id, -HOUR, HOUR)
    # One that was used stays until it expires: a second use must be known for what it is.
    await session.execute(text("UPDATE refresh_tokens SET used_at = now()"))
    await session.commit()
    await clean(sessions)
    assert await count(session, "refresh_families") == 1
    assert await count(session, "refresh_tokens") == 1
    assert await session.scalar(select(RefreshToken.expires_at > func.now()))


async def test_expired_idempotency_keys_go(sessions: Sessions, session: AsyncSession) -> None:
    ann = await make_user(session)
    for key, lifetime in (("old", -HOUR), ("new", HOUR)):
        expires_at = func.now() + lifetime
        session.add(IdempotencyKey(user_id=ann.id, key=key, fingerprint=b"", expires_at=expires_at))
    await session.commit()
    await clean(sessions)
    assert (await session.scalars(select(IdempotencyKey.key))).all() == ["new"]


async def test_what_somebody_works_with_is_left_for_next_time(live: Live) -> None:
    async with live.sessions() as session:
        ann = await make_user(session)
        await family(session, ann.id, -HOUR)
        await session.commit()
        await session.execute(text("SELECT 1 FROM refresh_tokens FOR UPDATE"))
        await clean(live.sessions)  # and does not wait
        assert await count(session, "refresh_tokens") == 1
        await session.rollback()
        await clean(live.sessions)
        assert await count(session, "refresh_tokens") == 0


async def test_a_kind_that_cannot_be_pruned_keeps_no_other_from_it(
    sessions: Sessions,
    session: AsyncSession,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(_: AsyncSession) -> int:
        raise OSError

    ann = await make_user(session)
    await family(session, ann.id, -HOUR)
    await session.commit()
    monkeypatch.setattr(housekeeping, "PRUNES", {"sand": fail, **PRUNES})
    await clean(sessions)
    assert "the sand cannot be pruned (OSError)" in caplog.text
    assert await count(session, "refresh_tokens") == 0
