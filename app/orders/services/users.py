"""The rules about users: everybody has a say about themselves, an admin about all."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.access import Principal, Role
from orders.core.database import Sessions, transaction
from orders.core.errors import ConflictError, ForbiddenError, NotFoundError
from orders.core.passwords import Passwords
from orders.models import User
from orders.repositories import users
from orders.schemas.user import Sort, UserUpdate
from orders.services.own_password import OwnPassword

log = logging.getLogger(__name__)

_ADMINS_TO_SET = {"role", "is_active"}
_NEEDS_PASSWORD = {"email", "password"}
_REVOKES = {"password", "role", "is_active"}


async def list_page(
    session: AsyncSession, *, search: str, sort: Sort, limit: int, offset: int
) -> tuple[Sequence[User], int]:
    """Read a page of the users that match, and how many do."""
    return await users.list_page(session, search=search, sort=sort, limit=limit, offset=offset)


async def get(session: AsyncSession, principal: Principal, user_id: UUID) -> User:
    """Read a user.

    Raises:
        ForbiddenError: it is somebody else's.
        NotFoundError: there is none of that id.
    """
    _refuse_others(principal, user_id)
    return _found(await users.get(session, user_id), user_id)


async def update(
    session: AsyncSession,
    passwords: Passwords,
    own_password: OwnPassword,
    principal: Principal,
    user_id: UUID,
    wanted: UserUpdate,
) -> User:
    """Change what is named. A new password, role or standing refuses all earlier tokens.

    Raises:
        ForbiddenError: it is not the principal's to change, or the current password is wrong.
        TooOftenError: the current password was tried too often.
        NotFoundError: there is none of that id.
        ConflictError: it is the last active admin, and would not be one any more.
        BusyError: too many passwords are being hashed.
    """
    _refuse_others(principal, user_id)
    changes: dict[str, Any] = wanted.model_dump(exclude_none=True, exclude={"current_password"})
    if not principal.is_admin and changes.keys() & _ADMINS_TO_SET:
        raise ForbiddenError("only an admin can set role and is_active")
    if user_id == principal.user_id and changes.keys() & _NEEDS_PASSWORD:
        if wanted.current_password is None:
            raise ForbiddenError("to change your e-mail or password, say current_password as well")
        await own_password.confirm(user_id, wanted.current_password)
    revoke = bool(changes.keys() & _REVOKES)
    if "password" in changes:
        await session.commit()  # gives the connection back: hashing takes its time
        changes["password_hash"] = await passwords.hash(changes.pop("password"))
    async with transaction(session):
        if not changes:
            return _found(await users.get(session, user_id), user_id)
        if changes.get("is_active") is False or changes.get("role", Role.ADMIN) != Role.ADMIN:
            await _keep_an_admin(session, user_id)
        return _found(await users.change(session, user_id, changes, revoke=revoke), user_id)


async def delete(session: AsyncSession, principal: Principal, user_id: UUID) -> None:
    """Delete a user, and with it all that it signs in with.

    Raises:
        ForbiddenError: it is somebody else.
        NotFoundError: there is none of that id.
        ConflictError: it is the last active admin.
    """
    _refuse_others(principal, user_id)
    async with transaction(session):
        await _keep_an_admin(session, user_id)
        if not await users.remove(session, user_id):
            raise NotFoundError(f"there is no user {user_id}")


async def note_login(sessions: Sessions, user_id: UUID) -> None:
    """Note that the user has signed in, in the background: what is lost of it is no loss."""
    try:
        async with sessions() as session, transaction(session):
            await users.note_login(session, user_id)
    except (SQLAlchemyError, OSError) as error:
        log.warning("a login was not noted (%s)", type(error).__name__)


async def _keep_an_admin(session: AsyncSession, user_id: UUID) -> None:
    if await users.lock_admins(session, user_id) == {user_id}:
        raise ConflictError("this is the last active admin; make somebody else one first")


def _refuse_others(principal: Principal, user_id: UUID) -> None:
    if not principal.may_act_for(user_id):
        raise ForbiddenError("this is another user")


def _found(user: User | None, user_id: UUID) -> User:
    if user is None:
        raise NotFoundError(f"there is no user {user_id}")
    return user
