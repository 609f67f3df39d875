"""The service's settings, typed, from the environment."""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tidegate.database import asyncpg_url


class OrdersSettings(BaseSettings):
    """``DATABASE_URL`` is the standard name; the service's own settings start with ``APP_``."""

    model_config = SettingsConfigDict(env_prefix="APP_", frozen=True)

    database_url: SecretStr = Field(
        validation_alias="DATABASE_URL",
        description="Set it to postgresql://user:password@host:5432/database.",
    )
    database_pool_size: int = Field(
        10, ge=1, le=200, description="Connections this process may hold at once."
    )
    database_pool_timeout: float = Field(
        5.0, gt=0, description="Seconds a request waits for a free connection before it fails."
    )

    @field_validator("database_url")
    @classmethod
    def _names_postgresql(cls, value: SecretStr) -> SecretStr:
        asyncpg_url(value.get_secret_value())
        return value
