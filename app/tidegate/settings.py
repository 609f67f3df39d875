"""Settings from the environment, and errors that name the variable."""

from __future__ import annotations

from pathlib import Path
from typing import Self, TypeVar

from pydantic import Field, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

S = TypeVar("S", bound=BaseSettings)


class SettingsError(ValueError):
    """The environment holds no usable settings; the message names each variable."""


class Settings(BaseSettings):
    """The library's own settings, each from ``TIDEGATE_<NAME>``. Durations are in seconds."""

    model_config = SettingsConfigDict(env_prefix="TIDEGATE_", frozen=True)

    host: str = Field("0.0.0.0", description="Address both ports listen on.")  # noqa: S104
    port: int = Field(8000, ge=0, le=65535, description="Port of the service.")
    admin_port: int = Field(9000, ge=0, le=65535, description="Port of health and metrics.")
    drain_delay: float = Field(
        5.0,
        ge=0,
        allow_inf_nan=False,
        description="After SIGTERM: how long to keep answering while endpoints update.",
    )
    drain_timeout: int = Field(
        20, ge=1, description="After the delay: how long requests in flight may take to end."
    )
    check_timeout: float = Field(
        2.0, gt=0, allow_inf_nan=False, description="How long one health check may take."
    )
    manifest: Path | None = Field(
        None, description="The shipped revisions, as `tidegate migrate manifest` writes them."
    )

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        if self.port and self.port == self.admin_port:
            raise ValueError(
                f"TIDEGATE_PORT and TIDEGATE_ADMIN_PORT are both {self.port}; they must differ"
            )
        return self


def read_settings(model: type[S]) -> S:
    """Read settings of the given class from the environment.

    Raises:
        SettingsError: a variable is missing or its value is not allowed.
    """
    try:
        return model()
    except ValidationError as error:
        raise SettingsError(
            "\n".join(_explain(model, problem) for problem in _list(error))
        ) from None


def _list(error: ValidationError) -> list[ErrorDetails]:
    # Without the input: it may be a password.
    return error.errors(include_url=False, include_input=False, include_context=False)


def _explain(model: type[BaseSettings], problem: ErrorDetails) -> str:
    location = str(problem["loc"][0]) if problem["loc"] else ""
    for name, field in model.model_fields.items():
        alias = field.validation_alias
        variable = alias if isinstance(alias, str) else f"{model.model_config['env_prefix']}{name}"
        if location in {name, alias}:
            break
    else:
        return problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"{variable.upper()} is not set. {field.description or ''}".rstrip()
    return f"{variable.upper()}: {problem['msg'].removeprefix('Value error, ')}"
