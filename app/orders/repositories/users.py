"""SQL for users."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, any_, delete, func, literal, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from orders.core.access import Role
from orders.core.rows import Rows
from orders.models import User
from orders.schemas.user import Sort

_COLUMNS: Mapping[str, InstrumentedAttribute[Any]] = {
    "created_at": User.created_at,
    "email": User.email,
    "name": User.name,
}

_STANDING: Final = "SELECT id, role, token_version FROM users WHERE id = ANY($1) AND is_active"


@dataclass(frozen=True, slots=True)
class Standing:
    """What a user may do at this moment."""

    role: Role
    token_version: int


async def add(session: AsyncSession, user: User) -> None:
    """Insert a user; id, role and the like come back with it."""
    session.add(user)
    await session.flush()
    await session.refresh(user)


async def get(session: AsyncSession, user_id: UUID) -> User | None:
    """Read one user."""
    return await session.get(User, user_id)


async def get_by_email(session: AsyncSession, email: str) -> User | None:
    """Read one user by an address in lower case."""
    return (await session.scalars(select(User).where(User.email == email))).one_or_none()


async def look_up(rows: Rows, user_ids: Collection[UUID]) -> dict[UUID, Standing]:
    """Read what each request of a user has to know; who is not active is left out."""
    found = await rows.read(_STANDING, user_ids)
    return {row["id"]: Standing(Role(row["role"]), row["token_version"]) for row in found}


async def standings(session: AsyncSession, user_ids: Collection[UUID]) -> dict[UUID, Standing]:
    """Read the same of many; who is not active, or not there, is left out."""
    query = select(User.id, User.role, User.token_version).where(
        User.id == any_(literal(list(user_ids), ARRAY(Uuid))), User.is_active
    )
    rows = await session.execute(query)
    return {row.id: Standing(Role(row.role), row.token_version) for row in rows}


async def list_page(
    session: AsyncSession, *, search: str, sort: Sort, limit: int, offset: int
) -> tuple[Sequence[User], int]:
    """Read a page of the users whose name or address holds ``search``, and count them all."""
    column = _COLUMNS[sort.removeprefix("-")]
    order = column.desc() if sort.startswith("-") else column.asc()
    matching = select(User).where(
        or_(
            User.email.icontains(search, autoescape=True),
            User.name.icontains(search, autoescape=True),
        )
    )
    # The id last, or equal names would come in any order and on two pages.
    page = await session.scalars(matching.order_by(order, User.id).limit(limit).offset(offset))
    total = await session.scalar(select(func.count()).select_from(matching.subquery()))
    return page.all(), total or 0


async def change(
    session: AsyncSession, user_id: UUID, values: Mapping[str, Any], *, revoke: bool = False
) -> User | None:
    """Set columns of one user; with ``revoke``, refuse all tokens that were issued before."""
    if revoke:
        values = {**values, "token_version": User.token_version + 1}
    query = update(User).where(User.id == user_id).values(**values).returning(User)
    found = await session.scalars(query, execution_options={"populate_existing": True})
    return found.one_or_none()


async def lock_admins(session: AsyncSession, user_id: UUID) -> set[UUID]:
    """Return the active admins, and let neither them nor this user change meanwhile.

    In the order of their ids, so that two who do this do not wait for each other; who had to wait
    sees them as the other one has left them.
    """
    is_admin = (User.role == Role.ADMIN) & User.is_active
    query = (
        select(User.id, is_admin)
        .where((User.id == user_id) | is_admin)
        .order_by(User.id)
        .with_for_update(key_share=True)
    )
    return {row[0] for row in await session.execute(query) if row[1]}


async def note_login(session: AsyncSession, user_id: UUID) -> None:
    """Note that the user has signed in now."""
    await session.execute(
        update(User)
        .where(User.id == user_id)
        .values(last_login_at=func.now())
        .execution_options(synchronize_session=False)
    )


async def remove(session: AsyncSession, user_id: UUID) -> bool:
    """Delete one user and what it signs in with; return whether there was one."""
    query = delete(User).where(User.id == user_id).returning(User.id)
    return (await session.scalars(query)).one_or_none() is not None
