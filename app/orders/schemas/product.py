"""Products on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

Text = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
Sku = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]
Int32 = Annotated[int, Field(ge=0, le=2**31 - 1)]


class ProductCreate(BaseModel):
    """A product to put into the catalogue."""

    model_config = ConfigDict(extra="forbid")

    sku: Sku
    name: Text
    price_cents: Int32
    stock: Int32 = 0


class ProductRead(BaseModel):
    """A product of the catalogue."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    sku: str
    name: str
    price_cents: int
    stock: int
    created_at: datetime
