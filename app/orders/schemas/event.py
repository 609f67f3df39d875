"""Events and tickets on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from orders.core.event_cursor import EventCursor
from orders.core.order_states import OrderStatus


def _check(text: str) -> str:
    EventCursor.parse(text)
    return text


LastEventId = Annotated[
    str, Field(max_length=8000, pattern=r"^[0-9]+(\.[0-9]+)+$"), AfterValidator(_check)
]
"""What a client has seen last, as it was told."""


class StreamQuery(BaseModel):
    """What a WebSocket's URL may hold: no secrets, and nothing unknown."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    order_id: UUID | None = None
    last_event_id: LastEventId | None = None

    @property
    def cursor(self) -> EventCursor | None:
        """Where the client has stopped before."""
        return EventCursor.parse(self.last_event_id) if self.last_event_id else None


class OrderState(BaseModel):
    """What the order was like then."""

    model_config = ConfigDict(from_attributes=True)

    status: OrderStatus
    version: int
    total_cents: int


class OrderEventRead(BaseModel):
    """Something that has happened to an order."""

    model_config = ConfigDict(from_attributes=True)

    id: Annotated[
        int, Field(description="Of the event. One that comes twice, after a break, has the same.")
    ]
    order_id: UUID
    kind: Annotated[str, Field(examples=["order.moved"])]
    payload: OrderState
    at: datetime


class TicketRead(BaseModel):
    """What opens one WebSocket, once."""

    ticket: Annotated[str, Field(description="Send it as the subprotocol `ticket.<ticket>`.")]
    expires_in: Annotated[int, Field(description="Seconds.", examples=[30])]
