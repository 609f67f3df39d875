"""Reports on the wire."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from orders.schemas.body import Body


class ReportCreate(Body):
    """What was sold, by product, on days in UTC."""

    since: Annotated[date, Field(ge=date(2000, 1, 1), examples=["2026-01-01"])]
    until: Annotated[
        date,
        Field(
            le=date(9999, 12, 30), examples=["2026-12-31"], description="The last day that counts."
        ),
    ]

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Self:
        if self.until < self.since:
            raise ValueError("until is before since")
        return self


class ReportRead(BaseModel):
    """How a report stands; once it is done, its `/download` gives it."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    since: date
    until: date
    status: Literal["waiting", "done", "failed"]
    created_at: datetime
    finished_at: datetime | None
