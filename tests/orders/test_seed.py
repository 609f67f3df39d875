"""From an empty database to an order, as a person does it: by command, tokens and keys."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import httpx
import pytest

from tests.migrate.conftest import clean_environment
from tests.orders.command import Command
from tests.orders.conftest import Live
from tests.orders.factories import PASSWORD

ADMIN = "root@example.org"
TEA = {"sku": "tea", "name": "Tea", "price_cents": 450, "stock": 10}


def seed(url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orders", "seed", "--admin", ADMIN],
        env=clean_environment() | {"DATABASE_URL": url, "APP_ENV": "development"},
        capture_output=True,
        text=True,
    )


async def signed_in(client: httpx.AsyncClient, email: str, password: str) -> dict[str, str]:
    form = {"username": email, "password": password}
    answer = await client.post("/api/v1/auth/login", data=form)
    assert answer.status_code == 200, answer.text
    return {"authorization": f"Bearer {answer.json()['access_token']}"}


async def test_an_admin_is_seeded_fills_the_catalogue_by_a_key_and_a_customer_orders(
    live: Live, own_url: str
) -> None:
    client = live.client
    seeded = await asyncio.to_thread(seed, own_url)
    assert (seeded.returncode, seeded.stderr) == (0, f"{ADMIN} is an admin\n")
    admin = await signed_in(client, ADMIN, seeded.stdout.strip())
    wanted = {
        "name": "Import",
        "scopes": ["products:write"],
        "current_password": seeded.stdout.strip(),
    }
    key = (await client.post("/api/v1/api-keys", json=wanted, headers=admin)).json()["key"]
    made = await client.post("/api/v1/products", json=TEA, headers={"x-api-key": key})
    assert made.status_code == 201, made.text

    ann = {"email": "ann@example.org", "name": "Ann", "password": PASSWORD}
    assert (await client.post("/api/v1/auth/register", json=ann)).status_code == 201
    customer = await signed_in(client, "ann@example.org", PASSWORD)
    wanted_order = {"lines": [{"product_id": made.json()["id"], "quantity": 2}]}
    placed = await client.post("/api/v1/orders", json=wanted_order, headers=customer)
    assert (placed.status_code, placed.json()["total_cents"]) == (201, 900)
    confirmed = await client.patch(
        placed.headers["location"],
        json={"status": "confirmed"},
        headers=customer | {"if-match": placed.headers["etag"]},
    )
    assert confirmed.status_code == 200
    listed = await client.get("/api/v1/orders", headers=admin)
    assert [order["status"] for order in listed.json()["items"]] == ["confirmed"]


async def test_who_is_known_is_raised_to_admin_with_the_password_from_standard_input(
    live: Live, own_url: str, command: Command
) -> None:
    ann = {"email": ADMIN, "name": "Ann", "password": PASSWORD}
    await live.client.post("/api/v1/auth/register", json=ann)
    before = await signed_in(live.client, ADMIN, PASSWORD)
    seeded = await asyncio.to_thread(
        command,
        *("seed", "--admin", ADMIN, "--password-stdin"),
        stdin="another passphrase\n",
        DATABASE_URL=own_url,
        APP_ENV="development",
    )
    assert (seeded.returncode, seeded.stdout) == (0, "")
    refused = await live.client.get("/api/v1/auth/me", headers=before)
    assert refused.status_code == 401
    after = await signed_in(live.client, ADMIN, "another passphrase")
    me = (await live.client.get("/api/v1/auth/me", headers=after)).json()
    assert (me["role"], me["name"]) == ("admin", "Ann")


@pytest.mark.parametrize(
    ("url", "email", "code", "words"),
    [
        ("postgresql://u:hunter2@127.0.0.1:1/d", ADMIN, 1, "migrate up"),
        ("postgresql://u:hunter2@127.0.0.1:1/d", "root", 2, "not a valid email address"),
        ("mysql://u:hunter2@h/d", ADMIN, 2, "DATABASE_URL"),
    ],
)
def test_what_goes_wrong_is_said_without_a_secret(
    command: Command, url: str, email: str, code: int, words: str
) -> None:
    ended = command("seed", "--admin", email, DATABASE_URL=url, APP_ENV="development")
    assert ended.returncode == code, ended.stderr
    assert words in ended.stderr
    assert "hunter2" not in ended.stderr
    assert "Traceback" not in ended.stderr
