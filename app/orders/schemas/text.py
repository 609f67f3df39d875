"""Texts and addresses, as people may write them."""

from __future__ import annotations

from typing import Annotated, Final
from unicodedata import category

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

# Letters and signs by their category, and nothing to see.
_BLANK: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0")


def _can_be_seen(text: str) -> str:
    """Refuse what shows nothing: spaces, direction marks, accents without a letter."""
    if any(category(each)[0] not in "CMZ" and each not in _BLANK for each in text):
        return text
    raise ValueError("nothing of it can be seen")


Visible = AfterValidator(_can_be_seen)
Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=100, strip_whitespace=True, pattern=_PRINTABLE),
    Visible,
    Field(examples=["Ann Example"]),
]
Title = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200, strip_whitespace=True, pattern=_PRINTABLE),
    Visible,
    Field(examples=["Tea"]),
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
