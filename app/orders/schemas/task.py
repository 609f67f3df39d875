"""Tasks on the wire, for admins."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class DeadTaskRead(BaseModel):
    """A task that is not tried any more."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    name: Annotated[str, Field(examples=["make_report"])]
    arguments: Annotated[str, Field(description="JSON, as the task gets it.")]
    ordered_at: datetime
    died_at: datetime
    reason: str | None
