"""Settings: from the environment, typed, shown with their source, and no weak secret."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orders.core.csrf import is_own_page
from orders.core.settings import OrdersSettings
from tests.migrate.conftest import clean_environment
from tests.orders.command import Command
from tidegate import SettingsError, read_settings

URL = "postgresql://orders:pass-w0rd@127.0.0.1/orders"
SECRET = "s3cret-" * 6


def test_every_setting_is_shown_with_its_source_and_secrets_masked(command: Command) -> None:
    given = {"DATABASE_URL": URL, "APP_JWT_SECRET": SECRET, "app_jwt_issuer": "shop"}
    shown = command("settings", "--json", **given)
    assert shown.returncode == 0, shown.stderr
    described = {each["variable"]: each for each in json.loads(shown.stdout)}
    told = {name: (each["value"], each["source"]) for name, each in described.items()}
    assert told["DATABASE_URL"] == ("********", "environment")
    assert told["APP_JWT_SECRET"] == ("********", "environment")
    assert told["APP_JWT_ISSUER"] == ("shop", "environment")
    assert told["APP_JWT_AUDIENCE"] == ("orders", "default")
    assert told["APP_ENV"] == ("production", "default")
    assert told["APP_ACCESS_TOKEN_SECONDS"] == (900, "default")
    assert told["APP_BROWSER_ORIGINS"] == ([], "default")
    assert told["TIDEGATE_PORT"] == (8000, "default")
    assert all(each["description"] for each in described.values())
    lines = command("settings", **given).stdout
    assert "APP_JWT_ISSUER" in lines
    assert len(lines.splitlines()) == len(described)
    for output in (shown.stdout, lines):
        assert "pass-w0rd" not in output
        assert SECRET not in output


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "APP_JWT_SECRET is not set, and the default is published"),
        ({"APP_JWT_SECRET": ""}, "APP_JWT_SECRET is not set, and the default is published"),
        (
            {"APP_JWT_SECRET": "for development only: everybody can read this"},
            "APP_JWT_SECRET is not set, and the default is published",
        ),
        ({"APP_JWT_SECRET": "c4n4ry" * 5}, "APP_JWT_SECRET: it has 30 bytes"),
        ({"APP_JWT_SECRET": "c4n4ry", "APP_ENV": "development"}, "APP_JWT_SECRET: it has 6 bytes"),
        ({"APP_JWT_SIGNING_KEY": "c4n4ry"}, "APP_JWT_SIGNING_KEY: it is no unencrypted PEM"),
        (
            {"APP_JWT_SECRET": SECRET, "APP_JWT_VERIFICATION_KEYS": "c4n4ry"},
            "APP_JWT_VERIFICATION_KEYS: write PEM public keys",
        ),
        ({"APP_ENV": "staging"}, "APP_ENV: Input should be"),
        (
            {"APP_ENV": "development", "APP_BROWSER_ORIGINS": "shop.example.org"},
            "APP_BROWSER_ORIGINS: shop.example.org is no origin",
        ),
        (
            {"APP_ENV": "development", "APP_PAYMENTS_URL": "https://shop:c4n4ry@pay.example.org"},
            "APP_PAYMENTS_URL: it holds a user name or a password, which would be shown; "
            "APP_PAYMENTS_TOKEN is for those",
        ),
        (
            {"APP_ENV": "development", "APP_FILES_ENDPOINT": "http://c4n4ry@minio:9000"},
            "APP_FILES_ENDPOINT: it holds a user name or a password, which would be shown; "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are for those",
        ),
        (
            {"APP_ENV": "development", "APP_ACCESS_TOKEN_SECONDS": "0"},
            "APP_ACCESS_TOKEN_SECONDS: Input should be greater than or equal to 30",
        ),
    ],
)
def test_what_is_weak_or_malformed_is_refused_by_name_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], words: str
) -> None:
    for name, value in ({"DATABASE_URL": URL} | environment).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        read_settings(OrdersSettings)
    assert words in str(refused.value)
    assert "c4n4ry" not in str(refused.value)


def test_development_starts_without_a_secret_of_its_own_and_nothing_else_does(
    command: Command,
) -> None:
    assert command("settings", DATABASE_URL=URL, APP_ENV="development").returncode == 0
    refused = subprocess.run(
        [sys.executable, "-m", "orders", "settings"],
        env=clean_environment() | {"DATABASE_URL": URL},
        capture_output=True,
        text=True,
    )
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("APP_JWT_SECRET is not set")
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("origin", "host", "own"),
    [
        ("https://api.example.org", "api.example.org", True),
        ("http://localhost:8000", "localhost:8000", True),
        ("https://SHOP.example.org", "api.example.org", True),
        ("https://api.example.org.evil.org", "api.example.org", False),
        ("https://api.example.org:444", "api.example.org", False),
        ("http://shop.example.org", "api.example.org", False),
        ("null", "null", False),
        (None, "api.example.org", False),
        ("", "", False),
        ("http://[", "api.example.org", False),
    ],
)
def test_a_page_is_our_own_by_its_origin(origin: str | None, host: str, own: bool) -> None:
    assert is_own_page(origin, host, ("https://shop.example.org",)) is own


@given(st.text(max_size=50), st.none() | st.text(max_size=20))
def test_no_other_origin_is_our_own(origin: str, host: str | None) -> None:
    assert not is_own_page(origin, host, ()) or (host or "").lower() in origin.lower()
