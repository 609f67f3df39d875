"""Orders on the wire. A client names products and quantities, never prices."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, field_validator

from orders.core.order_states import OrderStatus
from orders.schemas.body import Body


class OrderLineCreate(BaseModel):
    """One product to order."""

    model_config = ConfigDict(extra="forbid")

    product_id: UUID
    quantity: Annotated[int, Field(strict=True, ge=1, le=100)]


PaymentMethod = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        examples=["pm_card_visa"],
        description="As the customer's browser has got it from the payment provider: never a card.",
    ),
]


class OrderCreate(Body):
    """An order to place, and to pay for at once if it says how."""

    lines: Annotated[list[OrderLineCreate], Field(min_length=1, max_length=100)]
    payment_method_id: PaymentMethod | None = None

    @field_validator("lines")
    @classmethod
    def _name_each_product_once(cls, lines: list[OrderLineCreate]) -> list[OrderLineCreate]:
        if len({line.product_id for line in lines}) < len(lines):
            raise ValueError("name each product once")
        return lines


class OrderUpdate(Body):
    """What is to become of an order; its lines and prices stay."""

    status: Annotated[OrderStatus, Field(examples=["confirmed"])]


class OrderLineRead(BaseModel):
    """One product of an order, at the price of that moment."""

    model_config = ConfigDict(from_attributes=True)

    product_id: UUID
    quantity: int
    unit_price_cents: int


class OrderRead(BaseModel):
    """An order as it stands.

    A field that is added here needs a default: answers that are kept under an idempotency key may
    be older than it.
    """

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    user_id: Annotated[UUID | None, Field(description="Null once the user is deleted.")]
    status: OrderStatus
    total_cents: int
    version: Annotated[int, Field(description="Its ETag, without the quotes.")]
    created_at: datetime
    lines: list[OrderLineRead]
