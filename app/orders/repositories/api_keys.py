"""SQL for API keys."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, any_, func, literal, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.access import Role, Scope
from orders.core.rows import Rows
from orders.models import ApiKey

_GOOD: Final = (
    ApiKey.revoked_at.is_(None),
    or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.now()),
)
_LOOK_UP: Final = """
    SELECT prefix, api_keys.id, key_hash, scopes, user_id, role
    FROM api_keys JOIN users ON users.id = user_id AND is_active
    WHERE prefix = ANY($1) AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
"""


@dataclass(frozen=True, slots=True)
class Good:
    """A key that is neither revoked nor expired, of a user who is active."""

    id: UUID
    key_hash: bytes
    scopes: frozenset[Scope]
    user_id: UUID
    role: Role


async def add(session: AsyncSession, key: ApiKey) -> None:
    """Insert a key; id and time come back with it."""
    session.add(key)
    await session.flush()
    await session.refresh(key)


async def look_up(rows: Rows, prefixes: Collection[str]) -> dict[str, Good]:
    """Read the good ones among the keys of these prefixes."""
    return {
        row["prefix"]: Good(
            row["id"], row["key_hash"], _scopes(row["scopes"]), row["user_id"], Role(row["role"])
        )
        for row in await rows.read(_LOOK_UP, prefixes)
    }


async def good_among(
    session: AsyncSession, key_ids: Collection[UUID]
) -> dict[UUID, frozenset[Scope]]:
    """Read the scopes of those keys that are neither revoked nor expired."""
    if not key_ids:
        return {}
    query = select(ApiKey.id, ApiKey.scopes).where(
        ApiKey.id == any_(literal(list(key_ids), ARRAY(Uuid))), *_GOOD
    )
    return {row.id: _scopes(row.scopes) for row in await session.execute(query)}


async def list_of(session: AsyncSession, user_id: UUID) -> Sequence[ApiKey]:
    """Read a user's keys, the newest first."""
    query = (
        select(ApiKey)
        .where(ApiKey.user_id == user_id)
        .order_by(ApiKey.created_at.desc(), ApiKey.id)
        .limit(1000)
    )
    return (await session.scalars(query)).all()


async def get(session: AsyncSession, key_id: UUID) -> ApiKey | None:
    """Read one key."""
    return await session.get(ApiKey, key_id)


async def revoke(session: AsyncSession, key_id: UUID) -> None:
    """Refuse the key from now on; once revoked, the time stays."""
    await session.execute(
        update(ApiKey)
        .where(ApiKey.id == key_id, ApiKey.revoked_at.is_(None))
        .values(revoked_at=func.now())
        .execution_options(synchronize_session=False)
    )


def _scopes(stored: Sequence[str]) -> frozenset[Scope]:
    # A scope that a newer release has given, and this one does not know, is passed over.
    return frozenset(Scope(each) for each in stored if each in set(Scope))
