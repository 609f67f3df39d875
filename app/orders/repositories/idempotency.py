"""SQL for idempotency keys."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from orders.models import IdempotencyKey


@dataclass(frozen=True, slots=True)
class Kept:
    """What an earlier request with the same key asked, and was answered."""

    fingerprint: bytes
    answer: str
    is_final: bool


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
            "is_final": True,
        },
        where=IdempotencyKey.expires_at <= func.now(),
    ).returning(IdempotencyKey.key)
    if (await session.execute(row)).one_or_none():
        return None
    # The conflict has locked the row, so nobody prunes it in between.
    kept = select(IdempotencyKey.fingerprint, IdempotencyKey.answer, IdempotencyKey.is_final).where(
        *_is(user_id, key)
    )
    found = (await session.execute(kept)).one()
    return Kept(found.fingerprint, found.answer, found.is_final)


async def keep(
    session: AsyncSession, user_id: UUID, key: str, answer: str, *, is_final: bool
) -> None:
    """Store the answer under the key that this transaction has taken."""
    await session.execute(
        update(IdempotencyKey)
        .where(*_is(user_id, key))
        .values(answer=answer, is_final=is_final)
        .execution_options(synchronize_session=False)
    )


async def conclude(session: AsyncSession, user_id: UUID, key: str, answer: str) -> str:
    """Store the last word, once; return the one that is stored."""
    query = (
        update(IdempotencyKey)
        .where(*_is(user_id, key), ~IdempotencyKey.is_final)
        .values(answer=answer, is_final=True)
        .returning(IdempotencyKey.answer)
        .execution_options(synchronize_session=False)
    )
    if ours := await session.scalar(query):
        return ours
    return await session.scalar(select(IdempotencyKey.answer).where(*_is(user_id, key))) or answer


def _is(user_id: UUID, key: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return IdempotencyKey.user_id == user_id, IdempotencyKey.key == key
