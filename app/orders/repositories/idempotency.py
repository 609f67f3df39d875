"""SQL for idempotency keys."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import delete, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from orders.models import IdempotencyKey

_PRUNED_AT_A_TIME: Final = 10


@dataclass(frozen=True, slots=True)
class Kept:
    """What an earlier request with the same key asked, and was answered."""

    fingerprint: bytes
    answer: str


async def claim(
    session: AsyncSession, user_id: UUID, key: str, fingerprint: bytes, lifetime: timedelta
) -> Kept | None:
    """Take a key for this transaction; return what is kept under it if another one had it.

    While another transaction has it, this waits for that one's end: either its answer is kept
    then, or it has failed and the key is free.
    """
    new = insert(IdempotencyKey).values(
        user_id=user_id, key=key, fingerprint=fingerprint, expires_at=func.now() + lifetime
    )
    row = new.on_conflict_do_update(
        index_elements=[IdempotencyKey.user_id, IdempotencyKey.key],
        set_={
            "fingerprint": new.excluded.fingerprint,
            "expires_at": new.excluded.expires_at,
            "answer": None,
        },
        where=IdempotencyKey.expires_at <= func.now(),
    ).returning(IdempotencyKey.key)
    if (await session.execute(row)).one_or_none():
        return None
    # The conflict has locked the row, so nobody prunes it in between.
    kept = select(IdempotencyKey.fingerprint, IdempotencyKey.answer).where(
        IdempotencyKey.user_id == user_id, IdempotencyKey.key == key
    )
    found = (await session.execute(kept)).one()
    return Kept(found.fingerprint, found.answer)


async def keep(session: AsyncSession, user_id: UUID, key: str, answer: str) -> None:
    """Store the answer under the key that this transaction has taken.

    A few that have expired go at the same time: no more are left than requests come, and nothing
    has to run by the clock.
    """
    table = IdempotencyKey.__table__.c
    expired = (
        select(table.user_id, table.key)
        .where(table.expires_at <= func.now())
        .limit(_PRUNED_AT_A_TIME)
        .with_for_update(skip_locked=True)
    )
    pruned = (
        delete(IdempotencyKey)
        .where(tuple_(IdempotencyKey.user_id, IdempotencyKey.key).in_(expired))
        .returning(IdempotencyKey.key)
        .cte("pruned")
    )
    await session.execute(
        update(IdempotencyKey)
        .where(IdempotencyKey.user_id == user_id, IdempotencyKey.key == key)
        .values(answer=answer)
        .add_cte(pruned)
        .execution_options(synchronize_session=False)
    )
