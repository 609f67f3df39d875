"""The service's settings, typed, from the environment."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BeforeValidator,
    Field,
    HttpUrl,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from orders.core.media_types import ENDINGS
from orders.core.rates import Rate
from orders.core.shared import check_url
from orders.core.signing import LEAST_SECRET_BYTES, KeyRing, read_private_key, read_public_keys
from tidegate import asyncpg_url

_MIB: Final = 1024 * 1024
_PUBLISHED: Final = "for development only: everybody can read this"


def _read_rate(value: object) -> object:
    return Rate.parse(value) if isinstance(value, str) else value


RateSetting = Annotated[Rate | None, NoDecode, BeforeValidator(_read_rate)]


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
    database_read_url: SecretStr | None = Field(
        None,
        validation_alias="DATABASE_READ_URL",
        description="A read replica. Who shows no credentials is served the catalogue from it.",
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
    unpaid_order_seconds: int = Field(
        24 * 3600,
        ge=60,
        le=365 * 24 * 3600,
        description="How long after it was placed an order may be paid for or confirmed; then a "
        "worker cancels it, and what it holds is for sale again.",
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
        description="Origins, separated by commas, whose pages may use the API (CORS) and the "
        "refresh cookie, beside those on the service's own host. For example: "
        "https://shop.example.org",
    )
    trusted_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Names, separated by commas, that the service answers to; without any, to "
        "all. For example: shop.example.org,*.shop.example.org",
    )
    body_bytes: int = Field(
        128 * 1024,
        ge=1024,
        le=1024 * _MIB,
        description="How large a request's body may be; to sign in, 16 kB at most.",
    )
    cache_url: SecretStr | None = Field(
        None,
        validation_alias="CACHE_URL",
        description="A Redis or Valkey where all replicas count requests and cache together. For "
        "example: redis://:password@host:6379/0",
    )
    cache_seconds: float = Field(
        10.0,
        ge=0,
        le=3600,
        description="How old the catalogue may be that is shown without credentials; 0 caches "
        "nothing.",
    )
    rate_limit: RateSetting = Field(
        None,
        description="Requests that one user, or one address without credentials, may make. For "
        "example: 600/minute, or 100/5 minutes. Behind a proxy set FORWARDED_ALLOW_IPS first: all "
        "clients have its address otherwise.",
    )
    login_rate_limit: RateSetting = Field(
        Rate.parse("60/minute"),
        description="Tries to sign in or to register that one address may make; off for no limit.",
    )

    streams: int = Field(
        5000, ge=1, le=100_000, description="WebSockets and event streams one process may serve."
    )
    streams_per_user: int = Field(
        20, ge=1, le=100_000, description="Of those, how many one user may have at a time."
    )
    stream_heartbeat: float = Field(
        20.0, gt=0, le=3600, description="Seconds of silence on a stream before it says it lives."
    )
    files_directory: Path | None = Field(
        None,
        description="Where uploaded files are kept: a directory of a volume that all replicas "
        "mount. Without it and APP_FILES_BUCKET there are no files.",
    )
    files_bucket: str | None = Field(
        None,
        description="Keeps files in this bucket instead. Credentials and region are read from "
        "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, or are the pod's identity.",
    )
    files_endpoint: HttpUrl | None = Field(
        None, description="What speaks S3, unless it is Amazon. For example: http://minio:9000"
    )
    file_bytes: int = Field(
        10 * _MIB, ge=1, le=5 * 1024 * _MIB, description="How large one file may be."
    )
    files_bytes: int = Field(
        50 * _MIB,
        ge=1,
        le=50 * 1024 * _MIB,
        description="How large the files of one request may be together.",
    )
    files_kept_bytes: int | None = Field(
        None,
        ge=1,
        description="How large all files of one user may be together; without it, as large as the "
        "storage.",
    )
    files_at_once: int = Field(
        10, ge=1, le=1000, description="How many files one request may bring."
    )
    file_types: Annotated[tuple[str, ...], NoDecode] = Field(
        ("application/pdf", "image/gif", "image/jpeg", "image/png", "image/webp", "text/plain"),
        description="Types of files that are taken, separated by commas. Known are "
        f"{', '.join(ENDINGS)}.",
    )
    upload_seconds: float = Field(
        300.0, gt=0, le=1800, description="Seconds that an upload may take."
    )
    exports_at_once: int = Field(
        2,
        ge=1,
        le=50,
        description="CSV exports that one process makes at a time; each holds a "
        "connection to the database, of a pool of their own.",
    )
    export_seconds: float = Field(
        600.0, gt=0, le=24 * 3600, description="Seconds that a CSV export may take."
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

    @field_validator("database_url", "database_read_url")
    @classmethod
    def _names_postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        if value:
            asyncpg_url(value.get_secret_value())
        return value

    @field_validator("cache_url")
    @classmethod
    def _names_redis(cls, value: SecretStr | None) -> SecretStr | None:
        if value:
            check_url(value.get_secret_value())
        return value

    @field_validator("files_endpoint", "payments_url")
    @classmethod
    def _holds_no_credentials(cls, value: HttpUrl | None, info: ValidationInfo) -> HttpUrl | None:
        if value and (value.username or value.password):
            elsewhere = {
                "files_endpoint": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are",
                "payments_url": "APP_PAYMENTS_TOKEN is",
            }
            raise ValueError(
                "it holds a user name or a password, which would be shown; "
                f"{elsewhere[info.field_name or '']} for those"
            )
        return value

    @field_validator("trusted_hosts", mode="before")
    @classmethod
    def _split_hosts(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        hosts = tuple(each.strip().lower() for each in value.split(",") if each.strip())
        for host in hosts:
            if not re.fullmatch(r"(\*\.)?[a-z0-9._-]+|\[[0-9a-f:.]+\]", host):
                raise ValueError(f"{host} is no host; write shop.example.org, without a port")
        return hosts

    @field_validator("file_types", mode="before")
    @classmethod
    def _split_types(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        types = tuple(each.strip().lower() for each in value.split(",") if each.strip())
        for each in types:
            if each not in ENDINGS:
                raise ValueError(f"{each} is not known here; take some of {', '.join(ENDINGS)}")
        return types

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
    def _keeps_files_in_one_place(self) -> Self:
        if self.files_directory and self.files_bucket:
            raise ValueError("APP_FILES_DIRECTORY and APP_FILES_BUCKET are both set; take one")
        return self

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

    @property
    def unpaid_order_lifetime(self) -> timedelta:
        """``unpaid_order_seconds`` as a duration."""
        return timedelta(seconds=self.unpaid_order_seconds)

    def key_ring(self) -> KeyRing:
        """Return the keys that sign and verify access tokens."""
        if self.jwt_signing_key is None:
            return KeyRing.of_secret(self.jwt_secret.get_secret_value())
        return KeyRing.of_pairs(self.jwt_signing_key.get_secret_value(), self.jwt_verification_keys)
