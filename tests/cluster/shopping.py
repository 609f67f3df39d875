"""What an admin of the reference service does over HTTP: sign in, make a key, order, report."""

from __future__ import annotations

import json
import time
import urllib.request
from typing import Any, Final
from urllib.parse import urlencode

ADMIN: Final = "admin@example.org"
SCOPES: Final = ("orders:read", "orders:write", "products:write")


def make_key(url: str, password: str) -> str:
    """Sign in as the admin that `python -m orders seed` has made; return a new API key.

    Raises:
        OSError: the service does not answer, or not as it should.
    """
    token = sign_in(url, password)
    wanted = {
        "name": "the commands on the screen",
        "scopes": SCOPES,
        "current_password": password,
    }
    signed_in = {"authorization": f"Bearer {token}"}
    return str(_ask(f"{url}/api/v1/api-keys", _json(wanted), signed_in)["key"])


def sign_in(url: str, password: str) -> str:
    """Return an access token of the admin.

    Raises:
        OSError: the service does not answer, or not as it should.
    """
    form = urlencode({"username": ADMIN, "password": password}).encode()
    return str(_ask(f"{url}/api/v1/auth/login", form, {})["access_token"])


def order_tea(url: str, key: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Put a product into the catalogue and order two of it; return the order, and as it reads.

    Raises:
        OSError: the service does not answer, or not as it should.
    """
    who = {"x-api-key": key}
    tea = {"sku": f"tea-{time.time_ns()}", "name": "Tea", "price_cents": 450, "stock": 1000}
    product = _ask(f"{url}/api/v1/products", _json(tea), who)
    wanted = {"lines": [{"product_id": product["id"], "quantity": 2}]}
    order = _ask(f"{url}/api/v1/orders", _json(wanted), who)
    return order, _ask(f"{url}/api/v1/orders/{order['id']}", None, who)


def make_report(url: str, password: str, within: float = 30) -> dict[str, Any]:
    """Order a report of what was sold; return how it stands when a worker has had its time.

    Raises:
        OSError: the service does not answer, or not as it should.
    """
    who = {"authorization": f"Bearer {sign_in(url, password)}"}
    days = {"since": "2026-01-01", "until": "2999-12-31"}
    report = _ask(f"{url}/api/v1/reports", _json(days), who)
    deadline = time.monotonic() + within
    while report["status"] == "waiting" and time.monotonic() < deadline:
        time.sleep(0.2)
        report = _ask(f"{url}/api/v1/reports/{report['id']}", None, who)
    return report


def order_commands(url: str, key: str, order: dict[str, Any]) -> str:
    """Two commands for a person: one more such order, and the order read back."""
    body = {"lines": [{"product_id": order["lines"][0]["product_id"], "quantity": 1}]}
    text = json.dumps(body, separators=(",", ":"))
    return (
        f"  curl -s {url}/api/v1/orders -H 'x-api-key: {key}'"
        f" -H 'content-type: application/json' -d '{text}'\n"
        f"  curl -s {url}/api/v1/orders/{order['id']} -H 'x-api-key: {key}'\n"
    )


def _json(body: object) -> bytes:
    return json.dumps(body).encode()


def _ask(url: str, body: bytes | None, headers: dict[str, str]) -> dict[str, Any]:
    # A form is what urllib calls a body that nothing else is said of.
    if body and body.startswith(b"{"):
        headers = headers | {"content-type": "application/json"}
    request = urllib.request.Request(url, body, headers)  # noqa: S310 - our own service
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        result: dict[str, Any] = json.load(answer)
        return result
