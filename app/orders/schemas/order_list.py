"""The list of orders on the wire: by offset, or by cursor."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated, Final, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema, model_validator

from orders.core.order_states import OrderStatus
from orders.schemas.order import OrderRead

OrderSort = Literal["created_at", "-created_at", "total_cents", "-total_cents"]

_LONGEST: Final = 300
_NONE_OF_OURS: Final = "it is no cursor of this list; take next_cursor from a page"


class Cursor(BaseModel):
    """A place in the list: behind one order.

    It says what it is and is not signed: whose orders are listed is decided anew at every request,
    so one that a client has made up leads nowhere else.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    sort: OrderSort
    position: Annotated[int, Field(ge=0, le=250_000_000_000_000_000)]
    """The order's total in cents, or its time in microseconds since 1970: before the year 9900."""
    id: Annotated[UUID, Field(strict=False)]

    def __str__(self) -> str:
        return urlsafe_b64encode(self.model_dump_json().encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read what ``str(cursor)`` has written.

        Raises:
            ValueError: it is something else.
        """
        if not isinstance(text, str) or len(text) > _LONGEST:
            raise ValueError(_NONE_OF_OURS)
        try:
            return cls.model_validate_json(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        except ValueError:
            raise ValueError(_NONE_OF_OURS) from None


class OrderList(BaseModel):
    """Which orders to return."""

    status: Annotated[OrderStatus | None, Field(description="Only those in this state.")] = None
    sort: Annotated[OrderSort, Field(description="By what; with `-` the other way round.")] = (
        "-created_at"
    )
    limit: Annotated[int, Field(ge=1, le=100, description="How many to return.")] = 50
    offset: Annotated[int, Field(ge=0, le=1_000_000, description="How many to skip.")] = 0
    cursor: Annotated[
        Annotated[Cursor, PlainValidator(Cursor.parse)] | None,
        WithJsonSchema({"type": "string", "maxLength": _LONGEST}),
        Field(
            description="`next_cursor` of the page before. Faster than an offset far down the "
            "list, and nothing comes twice or is left out while orders come in."
        ),
    ] = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.cursor and self.offset:
            raise ValueError("send cursor or offset, not both")
        if self.cursor and self.cursor.sort != self.sort:
            raise ValueError(f"the cursor is of a list by {self.cursor.sort}: send that as sort")
        return self


class OrderPage(BaseModel):
    """Some of the orders that were asked for."""

    items: list[OrderRead]
    total: Annotated[
        int | None, Field(description="How many there are in all; not counted with a cursor.")
    ]
    next_cursor: Annotated[str | None, Field(description="Null on the last page.")]
