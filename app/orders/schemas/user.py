"""Users on the wire. A password goes one way only."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from orders.core.access import Role
from orders.schemas.body import Body
from orders.schemas.text import Email, Name, Password

Sort = Literal["created_at", "-created_at", "email", "-email", "name", "-name"]


class UserCreate(Body):
    """A user to register."""

    email: Email
    name: Name
    password: Password


class UserUpdate(Body):
    """What is to change; what is left out stays."""

    email: Email | None = None
    name: Name | None = None
    password: Password | None = None
    current_password: Annotated[
        str | None,
        Field(max_length=256, description="Needed to change one's own e-mail or password."),
    ] = None
    role: Annotated[Role | None, Field(description="An admin's to set.")] = None
    is_active: Annotated[bool | None, Field(description="An admin's to set.")] = None


class UserRead(BaseModel):
    """A user as it stands."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    email: str
    name: str
    role: Role
    is_active: bool
    last_login_at: datetime | None
    created_at: datetime
