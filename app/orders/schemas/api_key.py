"""API keys on the wire: the key itself is shown once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from orders.core.access import Scope
from orders.schemas.body import Body
from orders.schemas.text import Name


def _to_come(at: datetime) -> datetime:
    try:
        utc = at.astimezone(UTC)
    except OverflowError:
        raise ValueError("this moment has no date in UTC") from None
    if utc <= datetime.now(UTC):
        raise ValueError("this moment is over already")
    return utc


class ApiKeyCreate(Body):
    """A key to make."""

    name: Name
    scopes: Annotated[frozenset[Scope], Field(min_length=1, max_length=len(Scope), fail_fast=True)]
    expires_at: Annotated[AwareDatetime, AfterValidator(_to_come)] | None = None
    current_password: Annotated[
        str,
        Field(
            max_length=256,
            json_schema_extra={"format": "password"},
            description="Yours: whoever holds a token of yours alone makes no keys.",
        ),
    ]


class ApiKeyRead(BaseModel):
    """A key, without what would let somebody use it."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    name: str
    prefix: Annotated[str, Field(description="The part behind `ok_` that tells keys apart.")]
    scopes: list[Scope]
    expires_at: datetime | None
    revoked_at: datetime | None
    created_at: datetime


class ApiKeyCreated(ApiKeyRead):
    """A new key."""

    key: Annotated[str, Field(description="Keep it: it is not shown again.")]
