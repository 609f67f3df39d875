"""Texts and addresses, as people may write them."""

from __future__ import annotations

from typing import Annotated

from pydantic import (
    AfterValidator,
    EmailStr,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

# Without control characters: a database refuses some, and a terminal obeys others.
_PRINTABLE = r"^[^\x00-\x1f\x7f]*$"

Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=100, strip_whitespace=True, pattern=_PRINTABLE),
    Field(examples=["Ann Example"]),
]
Email = Annotated[
    EmailStr,
    # As one address whichever way it is written: mail servers do not tell the cases apart.
    AfterValidator(str.lower),
    Field(max_length=254, examples=["ann@example.org"]),
]
Password = Annotated[
    str,
    # A bound, or hashing a megabyte would be a way to keep the service busy.
    StringConstraints(min_length=12, max_length=256),
    Field(examples=["correct horse battery staple"], json_schema_extra={"format": "password"}),
]
_EMAIL = TypeAdapter[str](Email)


def as_registered(address: str) -> str:
    """Return an e-mail address as it is stored; what is none comes back as it is."""
    try:
        return _EMAIL.validate_python(address)
    except ValidationError:
        return address


Search = Annotated[str, StringConstraints(max_length=100, pattern=_PRINTABLE)]
