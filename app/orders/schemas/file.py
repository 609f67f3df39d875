"""Files on the wire: what is known of one. Its content travels alone."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class FileRead(BaseModel):
    """A file that was uploaded."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    name: Annotated[
        str,
        Field(
            examples=["bill.pdf"],
            description="As it was called, as far as that can be shown, with an ending of what it "
            "is.",
        ),
    ]
    media_type: Annotated[
        str, Field(examples=["application/pdf"], description="As its content says.")
    ]
    size: Annotated[int, Field(description="In bytes.")]
    sha256: Annotated[
        str,
        BeforeValidator(lambda value: value.hex() if isinstance(value, bytes) else value),
        Field(description="Of the content, in hexadecimal digits; in quotes it is the ETag."),
    ]
    created_at: datetime
