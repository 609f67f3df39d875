"""Orders on the wire. A client names products and quantities, never prices."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, field_validator


class OrderLineCreate(BaseModel):
    """One product to order."""

    model_config = ConfigDict(extra="forbid")

    product_id: UUID
    quantity: Annotated[int, Field(ge=1, le=100)]


class OrderCreate(BaseModel):
    """An order to place."""

    model_config = ConfigDict(extra="forbid")

    lines: Annotated[list[OrderLineCreate], Field(min_length=1, max_length=100)]

    @field_validator("lines")
    @classmethod
    def _name_each_product_once(cls, lines: list[OrderLineCreate]) -> list[OrderLineCreate]:
        if len({line.product_id for line in lines}) < len(lines):
            raise ValueError("name each product once")
        return lines


class OrderLineRead(BaseModel):
    """One product of an order, at the price of that moment."""

    model_config = ConfigDict(from_attributes=True)

    product_id: UUID
    quantity: int
    unit_price_cents: int


class OrderRead(BaseModel):
    """An order as it stands."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    status: str
    total_cents: int
    created_at: datetime
    lines: list[OrderLineRead]
