"""What every JSON body has in common."""

from __future__ import annotations

from typing import Any, Final, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

_MOST: Final = 300
"""Parts that are described one by one: to describe a hundred thousand takes seconds."""


class Body(BaseModel):
    """A body that may hold nothing unknown, and is not told of more faults than anybody reads."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="wrap")
    @classmethod
    def _count_faults(cls, sent: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:  # noqa: ANN401
        try:
            return handler(sent)
        except ValidationError as error:
            count = error.error_count()
            if count <= _MOST:
                raise
            raise PydanticCustomError(
                "too_many_errors",
                "{count} parts of it are malformed, too many to name",
                {"count": count},
            ) from None
