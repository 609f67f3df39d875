"""Products on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from orders.schemas.body import Body
from orders.schemas.text import Title

Sku = Annotated[
    str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$", examples=["tea-250"])
]
# 100 lines of 100 pieces of it stay an integer that JavaScript can hold.
Cents = Annotated[int, Field(strict=True, ge=0, le=10**11, examples=[450])]
# Half of what the column holds: what cancelled orders give back has to fit as well.
Stock = Annotated[int, Field(strict=True, ge=0, le=10**9, examples=[1000])]


class ProductCreate(Body):
    """A product to put into the catalogue."""

    sku: Sku
    name: Title
    price_cents: Cents
    stock: Stock = 0


class ProductUpdate(Body):
    """What is to change; what is left out stays."""

    name: Title | None = None
    price_cents: Cents | None = None
    stock: Stock | None = None


class ProductRead(BaseModel):
    """A product of the catalogue."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    sku: str
    name: str
    price_cents: int
    stock: int
    version: Annotated[int, Field(description="Its ETag, without the quotes.")]
    created_at: datetime
