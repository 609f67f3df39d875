"""Settings from the environment, and errors that name the variable."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

S = TypeVar("S", bound=BaseSettings)


class SettingsError(ValueError):
    """The environment holds no usable settings; the message names each variable."""


class Settings(BaseSettings):
    """The library's own settings, each from ``TIDEGATE_<NAME>``. Durations are in seconds."""

    model_config = SettingsConfigDict(env_prefix="TIDEGATE_", frozen=True)

    host: str = Field(default="0.0.0.0", description="Address both ports listen on.")  # noqa: S104
    port: int = Field(default=8000, ge=0, le=65535, description="Port of the service.")
    admin_port: int = Field(default=9000, ge=0, le=65535, description="Port of health and metrics.")
    drain_delay: float = Field(
        default=5.0,
        ge=0,
        le=3600,
        allow_inf_nan=False,
        description="After SIGTERM: how long to keep answering while endpoints update.",
    )
    drain_timeout: int = Field(
        default=20,
        ge=1,
        le=86400,
        description="After the delay: how long requests in flight may take to end.",
    )
    head_bytes: int = Field(
        default=32 * 1024,
        ge=1024,
        le=1024 * 1024,
        description="The most bytes of a request's line and headers together.",
    )
    ws_max_size: int = Field(
        default=1024 * 1024,
        ge=125,
        le=1024 * 1024 * 1024,
        description="The most bytes of a message that a WebSocket's client sends.",
    )
    check_timeout: float = Field(
        default=2.0,
        gt=0,
        le=60,
        allow_inf_nan=False,
        description="How long one health check may take.",
    )
    check_cache: float = Field(
        default=1.0,
        ge=0,
        le=60,
        allow_inf_nan=False,
        description="How long the answer of the health checks is given again without asking.",
    )
    manifest: Path | None = Field(
        default=None,
        description="The shipped revisions, as `tidegate migrate manifest` writes them.",
    )
    log_format: Literal["json", "console", "off"] | None = Field(
        default=None,
        description="How logs are written: json, console, or off to leave logging to the "
        "application. Without it: console on a terminal, else json.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least severe log records that are written."
    )
    access_log: bool = Field(default=True, description="One log line for each request.")
    exception_text: bool = Field(
        default=False,
        description="Whether the text of exceptions may leave the process; it often quotes what "
        "a client sent. Their types and stacks always do.",
    )
    scrub_keys: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Further names, separated by commas, whose values never reach a log, a span "
        "or Sentry, beside passwords, tokens, cookies and the like.",
    )
    metrics: bool = Field(default=True, description="Whether requests are measured.")
    traces_backend: Literal["direct", "contrib", "off"] = Field(
        default="direct",
        description="What makes spans once OTEL_EXPORTER_OTLP_ENDPOINT is set: direct is the "
        "library's own, contrib the OpenTelemetry SDK with its FastAPI instrumentation.",
    )

    @field_validator("scrub_keys", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value

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


def misspelt_variables(environ: Iterable[str]) -> list[str]:
    """Return a line for each variable that looks like a misspelt one of :class:`Settings`.

    Others with the prefix are somebody's: the runner's, or those of a Service of that name.
    """
    prefix = Settings.model_config["env_prefix"]
    known = [name.upper() for name in Settings.model_fields]
    others = [name.removeprefix(prefix) for name in sorted(environ) if name.startswith(prefix)]
    strangers = [name for name in others if name not in known]
    if not strangers:
        return []
    from difflib import get_close_matches  # milliseconds that hardly any process needs

    return [
        f"{prefix}{name} is no setting and changes nothing; is {prefix}{near[0]} meant?"
        for name in strangers
        if (near := get_close_matches(name, known, n=1, cutoff=0.85))
    ]


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
    said = problem["msg"].removeprefix("Value error, ")
    return f"{variable.upper()}: {said}{_allowed(field)}"


def _allowed(field: FieldInfo) -> str:
    """Return the values that a switch or a number may have; others say so themselves."""
    if field.annotation is bool:
        return "; allowed are true and false"
    bounds = {type(each).__name__: each for each in field.metadata}
    least = getattr(bounds.get("Ge"), "ge", None)
    above = getattr(bounds.get("Gt"), "gt", None)
    most = getattr(bounds.get("Le"), "le", None)
    if least is None and above is None and most is None:
        return ""
    start = f"above {above}" if above is not None else f"from {least}"
    return f"; allowed is {start}" + (f" to {most}" if most is not None else "")
