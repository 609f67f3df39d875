"""Payments on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from orders.outbound.payment_answers import Verdict
from orders.schemas.body import Body
from orders.schemas.order import PaymentMethod


class PaymentCreate(Body):
    """How to pay for an order; how much is the order's to say."""

    payment_method_id: PaymentMethod


class PaymentRead(BaseModel):
    """What was asked of the payment provider, and what it has answered."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    order_id: UUID
    amount_cents: int
    status: Annotated[
        Verdict,
        Field(
            validation_alias="verdict",
            description="`unsure`: the provider is asked until it has answered. `voided`: the "
            "order was cancelled, and the money is no longer reserved.",
        ),
    ]
    reason: Annotated[str, Field(description="Why it was declined, in the provider's words.")]
    created_at: datetime
    settled_at: datetime | None
    voided_at: datetime | None
