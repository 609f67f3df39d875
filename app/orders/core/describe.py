"""What the settings are, and where each comes from: for `python -m orders settings`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pydantic import SecretStr
from pydantic_settings import BaseSettings


@dataclass(frozen=True, slots=True)
class Described:
    """One setting."""

    variable: str
    value: str | int | float | bool | list[str] | None
    """Of a secret only that it is one."""
    source: Literal["environment", "default"]
    description: str


def describe(settings: BaseSettings, variables: Iterable[str]) -> list[Described]:
    """List all settings of an object.

    Args:
        settings: as it was read.
        variables: names that are set, in any case, and not to the empty text.
    """
    known = {name.upper() for name in variables}
    described = []
    for name, field in type(settings).model_fields.items():
        alias = field.validation_alias
        prefix = type(settings).model_config["env_prefix"]
        variable = (alias if isinstance(alias, str) else f"{prefix}{name}").upper()
        source: Literal["environment", "default"] = (
            "environment" if variable in known else "default"
        )
        value = _shown(getattr(settings, name))
        described.append(Described(variable, value, source, field.description or ""))
    return described


def _shown(value: object) -> str | int | float | bool | list[str] | None:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case SecretStr():
            return "********"
        case tuple() | list():
            return [str(each) for each in value]
        case _:
            return str(value)
