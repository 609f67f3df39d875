"""Signing in, on the wire."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from orders.schemas.body import Body
from orders.schemas.text import as_registered

_TOKEN = r"^[A-Za-z0-9_-]*$"  # noqa: S105 - a pattern


class LoginForm(BaseModel):
    """OAuth2's password grant (RFC 6749, 4.3); what else a client sends is passed over."""

    grant_type: Literal["password"] = "password"
    username: Annotated[
        str,
        Field(max_length=254, pattern=r"^[^\x00]*$", description="The e-mail address."),
        AfterValidator(as_registered),
    ]
    password: Annotated[str, Field(max_length=256, json_schema_extra={"format": "password"})]


class RefreshTokenBody(Body):
    """The refresh token of a client that keeps it itself."""

    refresh_token: Annotated[str, Field(max_length=100, pattern=_TOKEN)]


class TokenRead(BaseModel):
    """What signing in or refreshing gives."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - a type's name
    expires_in: Annotated[int, Field(description="Seconds.")]
    refresh_token: Annotated[
        str | None, Field(description="Good for one use. Null where it is in the cookie.")
    ]


class JwksRead(BaseModel):
    """A JSON Web Key Set (RFC 7517)."""

    keys: list[dict[str, str]]
