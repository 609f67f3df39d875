"""``/api/v1/users``."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query

from orders.api.deps import Admin, CurrentUser, Limit, Offset, OwnPassword, Passwords, Session
from orders.core.openapi import problems
from orders.models import User
from orders.schemas.page import Page
from orders.schemas.text import Search
from orders.schemas.user import Sort, UserRead, UserUpdate
from orders.services import users

router = APIRouter(prefix="/users", tags=["users"])


@router.get("", response_model=Page[UserRead], responses=problems(403), summary="List users")
async def list_users(
    _: Admin,
    session: Session,
    search: Annotated[Search, Query(description="A part of the name or e-mail.")] = "",
    sort: Annotated[Sort, Query(description="By what; with `-` the other way round.")] = "email",
    limit: Limit = 50,
    offset: Offset = 0,
) -> dict[str, Any]:
    """Return one page; for admins."""
    items, total = await users.list_page(
        session, search=search, sort=sort, limit=limit, offset=offset
    )
    return {"items": items, "total": total}


@router.get(
    "/{user_id}", response_model=UserRead, responses=problems(403, 404), summary="Read a user"
)
async def read_user(user_id: UUID, user: CurrentUser, session: Session) -> User:
    """Return yourself, or, to an admin, anybody."""
    return await users.get(session, user, user_id)


@router.patch(
    "/{user_id}",
    response_model=UserRead,
    responses=problems(403, 404, 409),
    summary="Change a user",
)
async def update_user(
    user_id: UUID,
    wanted: UserUpdate,
    user: CurrentUser,
    session: Session,
    passwords: Passwords,
    own_password: OwnPassword,
) -> User:
    """Change what is named. A new password, role or standing refuses all earlier tokens."""
    return await users.update(session, passwords, own_password, user, user_id, wanted)


@router.delete(
    "/{user_id}",
    status_code=HTTPStatus.NO_CONTENT,
    responses=problems(403, 404, 409),
    summary="Delete a user",
)
async def delete_user(user_id: UUID, user: CurrentUser, session: Session) -> None:
    """Delete yourself, or, as an admin, anybody."""
    await users.delete(session, user, user_id)
