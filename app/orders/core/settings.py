"""The service's settings, typed, from the environment."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, HttpUrl, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from orders.core.signing import LEAST_SECRET_BYTES, KeyRing, read_private_key, read_public_keys
from tidegate.database import asyncpg_url

_PUBLISHED: Final = "for development only: everybody can read this"


class OrdersSettings(BaseSettings):
    """``DATABASE_URL`` is the standard name; the service's own settings start with ``APP_``."""

    model_config = SettingsConfigDict(
        env_prefix="APP_",
        env_ignore_empty=True,
        frozen=True,
        hide_input_in_errors=True,
    )

    env: Literal["production", "development"] = Field(
        "production", description="development lets the service start without secrets of its own."
    )
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
    database_command_timeout: float = Field(
        5.0, gt=0, description="Seconds that one statement may take before the request fails."
    )
    direct_url: SecretStr | None = Field(
        None,
        validation_alias="DIRECT_URL",
        description="The database past a pooler, if DATABASE_URL leads through one: the worker "
        "listens there, and a pooler in transaction mode forgets listeners.",
    )
    database_pooler: bool = Field(
        False,
        description="DATABASE_URL leads to a pooler such as PgBouncer that lends a connection for "
        "one transaction: statements are prepared anew each time, at about twice the cost.",
    )
    idempotency_seconds: int = Field(
        24 * 3600,
        ge=60,
        le=30 * 24 * 3600,
        description="How long the answer to an Idempotency-Key is kept.",
    )
    jwt_secret: SecretStr = Field(
        SecretStr(_PUBLISHED),
        description="Signs access tokens (HS256) unless APP_JWT_SIGNING_KEY is set: at least "
        f"{LEAST_SECRET_BYTES} bytes.",
    )
    jwt_signing_key: SecretStr | None = Field(
        None,
        description="Signs access tokens instead: a PEM private key, RSA (RS256) or Ed25519 "
        "(EdDSA).",
    )
    jwt_verification_keys: str = Field(
        "",
        description="Further PEM public keys whose tokens are accepted while keys rotate, one "
        "after the other.",
    )
    jwt_issuer: str = Field("orders", min_length=1, description="The claim iss.")
    jwt_audience: str = Field("orders", min_length=1, description="The claim aud.")
    access_token_seconds: int = Field(
        15 * 60, ge=30, le=24 * 3600, description="How long an access token is valid."
    )
    refresh_token_seconds: int = Field(
        14 * 24 * 3600, ge=60, le=400 * 24 * 3600, description="How long a refresh token is valid."
    )
    password_hashes_at_once: int = Field(
        2, ge=1, le=64, description="Passwords hashed at a time; each takes a thread and 19 MiB."
    )
    browser_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Origins, separated by commas, whose pages may use the refresh cookie beside "
        "those on the service's own host. For example: https://shop.example.org",
    )

    payments_url: HttpUrl | None = Field(
        None,
        description="The payment provider's API. Without it orders are not paid for here.",
    )
    payments_token: SecretStr | None = Field(
        None, description="Sent to the payment provider as Authorization: Bearer."
    )
    payments_timeout: float = Field(
        6.0, gt=0, le=60, description="Seconds for a payment's authorisation, up to three calls."
    )
    tasks_at_once: int = Field(
        10, ge=2, le=200, description="Tasks that one worker process runs at a time."
    )
    task_takeover_seconds: float = Field(
        30.0,
        ge=1,
        le=3600,
        description="After so long without a sign of life from its worker, a task is given to "
        "another one.",
    )

    @field_validator("database_url")
    @classmethod
    def _names_postgresql(cls, value: SecretStr) -> SecretStr:
        asyncpg_url(value.get_secret_value())
        return value

    @field_validator("jwt_secret")
    @classmethod
    def _is_long_enough(cls, value: SecretStr) -> SecretStr:
        length = len(value.get_secret_value().encode())
        if length < LEAST_SECRET_BYTES:
            raise ValueError(
                f"it has {length} bytes, and one that short can be guessed; take at least "
                f"{LEAST_SECRET_BYTES} random ones, for example from `openssl rand -base64 48`"
            )
        return value

    @field_validator("jwt_signing_key")
    @classmethod
    def _is_a_private_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value:
            read_private_key(value.get_secret_value())
        return value

    @field_validator("jwt_verification_keys")
    @classmethod
    def _are_public_keys(cls, value: str) -> str:
        read_public_keys(value)
        return value

    @field_validator("browser_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        origins = tuple(each.strip().lower() for each in value.split(",") if each.strip())
        for origin in origins:
            parts = urlsplit(origin)
            if (
                parts.scheme not in {"http", "https"}
                or origin != f"{parts.scheme}://{parts.netloc}"
            ):
                raise ValueError(f"{origin} is no origin; write https://shop.example.org")
        return origins

    @model_validator(mode="after")
    def _has_secrets_of_its_own(self) -> Self:
        if (
            self.env != "development"
            and self.jwt_signing_key is None
            and self.jwt_secret.get_secret_value() == _PUBLISHED
        ):
            raise ValueError(
                "APP_JWT_SECRET is not set, and the default is published: anybody could sign "
                "tokens. Set it to at least 32 random bytes (`openssl rand -base64 48`), or set "
                "APP_JWT_SIGNING_KEY; APP_ENV=development does without, on your own machine only"
            )
        return self

    @property
    def refresh_token_lifetime(self) -> timedelta:
        """``refresh_token_seconds`` as a duration."""
        return timedelta(seconds=self.refresh_token_seconds)

    @property
    def idempotency_lifetime(self) -> timedelta:
        """``idempotency_seconds`` as a duration."""
        return timedelta(seconds=self.idempotency_seconds)

    def key_ring(self) -> KeyRing:
        """Return the keys that sign and verify access tokens."""
        if self.jwt_signing_key is None:
            return KeyRing.of_secret(self.jwt_secret.get_secret_value())
        return KeyRing.of_pairs(self.jwt_signing_key.get_secret_value(), self.jwt_verification_keys)
