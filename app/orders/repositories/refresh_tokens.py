"""SQL for refresh tokens and their families."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.access import Role
from orders.models import RefreshFamily, RefreshToken, User
from orders.repositories.expired import delete_expired


@dataclass(frozen=True, slots=True)
class Taken:
    """A refresh token that was good, until now."""

    family_id: UUID
    user_id: UUID
    role: Role
    token_version: int


async def add_family(session: AsyncSession, user_id: UUID, token_version: int) -> UUID:
    """Insert a family for a login; return its id."""
    family = RefreshFamily(user_id=user_id, token_version=token_version)
    session.add(family)
    await session.flush()
    return family.id


async def add(
    session: AsyncSession, token_hash: bytes, family_id: UUID, lifetime: timedelta
) -> None:
    """Insert a token of a family."""
    session.add(
        RefreshToken(token_hash=token_hash, family_id=family_id, expires_at=func.now() + lifetime)
    )
    await session.flush()


async def take(session: AsyncSession, token_hash: bytes) -> Taken | None:
    """Use a token up; ``None`` if it is not good.

    One statement: of two requests with the same token the second waits for the first one's row,
    finds it used, and takes nothing.
    """
    query = (
        update(RefreshToken)
        .where(
            RefreshToken.token_hash == token_hash,
            RefreshToken.used_at.is_(None),
            RefreshToken.expires_at > func.now(),
            RefreshFamily.id == RefreshToken.family_id,
            RefreshFamily.revoked_at.is_(None),
            User.id == RefreshFamily.user_id,
            User.is_active,
            User.token_version == RefreshFamily.token_version,
        )
        .values(used_at=func.now())
        .returning(RefreshFamily.id, User.id, User.role, User.token_version)
        .execution_options(synchronize_session=False)
    )
    row = (await session.execute(query)).one_or_none()
    return Taken(row[0], row[1], Role(row[2]), row[3]) if row else None


async def family_of_used(session: AsyncSession, token_hash: bytes) -> UUID | None:
    """Return the family of a token that was used before; ``None`` for any other."""
    return await session.scalar(
        select(RefreshToken.family_id).where(
            RefreshToken.token_hash == token_hash, RefreshToken.used_at.is_not(None)
        )
    )


async def family_of(session: AsyncSession, token_hash: bytes) -> UUID | None:
    """Return the family of a token, used or not."""
    return await session.scalar(
        select(RefreshToken.family_id).where(RefreshToken.token_hash == token_hash)
    )


async def revoke_family(session: AsyncSession, family_id: UUID) -> UUID | None:
    """Refuse all tokens of a family from now on; return whose it was if it was good until now.

    Whether a token is good is asked of the family when it is used. So one that another request
    is adding to the family at this moment is refused as well.
    """
    query = (
        update(RefreshFamily)
        .where(RefreshFamily.id == family_id, RefreshFamily.revoked_at.is_(None))
        .values(revoked_at=func.now())
        .returning(RefreshFamily.user_id)
        .execution_options(synchronize_session=False)
    )
    return (await session.scalars(query)).one_or_none()


async def prune(session: AsyncSession, most: int) -> int:
    """Delete tokens that have expired, at most so many, and families that have none left.

    Until then one that was used stays: a second use is to be known for what it is. Returns how
    many tokens.
    """
    expired = delete_expired(RefreshToken, most).returning(RefreshToken.family_id)
    families = (await session.scalars(expired)).all()
    left = select(RefreshToken).where(RefreshToken.family_id == RefreshFamily.id).exists()
    empty = delete(RefreshFamily).where(RefreshFamily.id.in_(set(families)), ~left)
    await session.execute(empty.execution_options(synchronize_session=False))
    return len(families)
