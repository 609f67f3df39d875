"""SQL for files."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import and_, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from orders.models import File, User


@dataclass(frozen=True, slots=True)
class Arrived:
    """What has become known of a file while it came in."""

    id: UUID
    name: str
    media_type: str
    size: int
    sha256: bytes


async def announce(session: AsyncSession, file_id: UUID, owner: UUID) -> None:
    """Insert a file whose content is about to come."""
    session.add(File(id=file_id, user_id=owner))
    await session.flush()


async def settle(session: AsyncSession, arrived: Sequence[Arrived]) -> Sequence[File]:
    """Say of files that their content is there; return them in the same order.

    Those that are gone in the meantime are missing.
    """
    found: dict[UUID, File] = {}
    for each in arrived:
        query = (
            update(File)
            .where(File.id == each.id, File.state == "arriving")
            .values(
                state="stored",
                name=each.name,
                media_type=each.media_type,
                size=each.size,
                sha256=each.sha256,
                created_at=func.now(),
            )
            .returning(File)
            .execution_options(populate_existing=True)
        )
        file = (await session.scalars(query)).one_or_none()
        if file is not None:
            found[file.id] = file
    return [found[each.id] for each in arrived if each.id in found]


async def kept_bytes(session: AsyncSession, owner: UUID) -> int:
    """Say how large a user's files are together."""
    query = select(func.coalesce(func.sum(File.size), 0)).where(
        File.user_id == owner, File.state == "stored"
    )
    return int(await session.scalar(query) or 0)


async def hold(session: AsyncSession, owner: UUID) -> None:
    """Let nobody else who holds this user's files go on before the transaction ends."""
    await session.execute(select(User.id).where(User.id == owner).with_for_update(key_share=True))


async def get(session: AsyncSession, file_id: UUID) -> File | None:
    """Read what is known of a file whose content is there."""
    query = select(File).where(File.id == file_id, File.state == "stored")
    return (await session.scalars(query)).one_or_none()


async def list_page(
    session: AsyncSession, owner: UUID, *, limit: int, offset: int
) -> tuple[Sequence[File], int]:
    """Read a page of a user's files, the latest first, and count them all."""
    own = select(File).where(File.user_id == owner, File.state == "stored")
    page = own.order_by(File.created_at.desc(), File.id.desc()).limit(limit).offset(offset)
    total = await session.scalar(select(func.count()).select_from(own.subquery()))
    return (await session.scalars(page)).all(), total or 0


async def dismiss(session: AsyncSession, file_id: UUID) -> bool:
    """Say of a file that its content has to go: nobody finds it any more. False if it is gone."""
    result: Any = await session.execute(
        update(File)
        .where(File.id == file_id, File.state == "stored")
        .values(state="leaving")
        .execution_options(synchronize_session=False)
    )
    return bool(result.rowcount)


async def to_clear(session: AsyncSession, older: timedelta, limit: int) -> Sequence[UUID]:
    """List files whose content has to go: dismissed, of a deleted user, or never quite arrived."""
    never_arrived = and_(File.state == "arriving", File.created_at < func.now() - older)
    query = (
        select(File.id)
        .where(
            or_(File.state != "stored", File.user_id.is_(None)),  # the index's own condition
            or_(File.state == "leaving", File.user_id.is_(None), never_arrived),
        )
        .order_by(File.created_at)
        .limit(limit)
    )
    return (await session.scalars(query)).all()


async def forget(session: AsyncSession, file_ids: Collection[UUID]) -> None:
    """Delete what is known of files whose content is gone."""
    await session.execute(
        delete(File).where(File.id.in_(file_ids)).execution_options(synchronize_session=False)
    )
