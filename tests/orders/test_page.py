"""The landing page, in a real browser: orders appear while one looks, and nothing else can run."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from orders.core.access import Role
from orders.core.database import create_engine, create_sessions
from orders.core.settings import OrdersSettings
from tests.browser import Browser, chromium
from tests.cluster.errors import ClusterError
from tests.orders.conftest import settings_of
from tests.orders.factories import PASSWORD, make_product, make_user
from tests.orders.test_contract import served


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    try:
        with chromium(tmp_path_factory.mktemp("chromium")) as browser:
            yield browser
    except ClusterError as error:
        pytest.skip(f"no browser: {error}")


@pytest.fixture
def settings(own_url: str) -> OrdersSettings:
    return settings_of(own_url, stream_heartbeat=1)


@pytest.fixture
def url(settings: OrdersSettings) -> Iterator[str]:
    with served(settings) as (url, _):
        yield url


async def filled(settings: OrdersSettings) -> tuple[str, str, str]:
    engine = create_engine(settings)
    async with create_sessions(engine)() as session:
        admin = await make_user(session, role=Role.ADMIN)
        customer = await make_user(session)
        product = await make_product(session, price_cents=450)
    await engine.dispose()
    return admin.email, customer.email, str(product.id)


def sign_in(browser: Browser, email: str, password: str = PASSWORD) -> None:
    browser.type("#email", email)
    browser.type("#password", password)
    browser.click("#sign-in button")


STATE = "document.querySelector('#state').textContent"
ROWS = "[...document.querySelectorAll('#orders tbody tr')].map((row) => row.innerText)"


def test_orders_appear_as_they_are_placed_and_none_after_signing_out(
    browser: Browser, url: str, settings: OrdersSettings
) -> None:
    admin, customer, product_id = asyncio.run(filled(settings))
    browser.open(url)
    sign_in(browser, admin, "a wrong password")
    browser.until(f"{STATE}.includes('there is no active user')")
    browser.run("document.querySelector('#email').value = ''")
    sign_in(browser, admin)
    browser.until(f"{STATE} === 'Live.'")
    with httpx.Client(base_url=url) as client:
        form = {"username": customer, "password": PASSWORD}
        token = client.post("/api/v1/auth/login", data=form).json()["access_token"]
        body = {"lines": [{"product_id": product_id, "quantity": 2}]}
        headers = {"authorization": f"Bearer {token}"}
        order = client.post("/api/v1/orders", json=body, headers=headers).json()
    browser.until(f"document.querySelector('tr[data-order=\"{order['id']}\"]') !== null")
    (row,) = browser.run(f"return {ROWS}")
    assert "9.00" in row
    assert order["status"] in row
    assert browser.run("return {...localStorage}, document.cookie") == ""
    browser.click("#sign-out")
    browser.until(f"{STATE} === 'Signed out.'")
    assert browser.run(f"return {ROWS}") == []
    expected = re.compile("login - Failed to load resource.*401")
    assert [each for each in browser.complaints() if not expected.search(each)] == []


def test_no_script_but_the_pages_own_runs(browser: Browser, url: str) -> None:
    policy = httpx.get(url).headers["content-security-policy"]
    assert "script-src 'self'; style-src 'self'; connect-src 'self';" in policy
    browser.open(url)
    browser.complaints()
    for attack in (
        "const s = document.createElement('script'); s.textContent = 'window.hit = 1';"
        "document.body.append(s)",
        "document.body.append(Object.assign(document.createElement('img'),"
        "{src: 'https://evil.net/x'}))",
        "const s = document.createElement('style'); s.textContent = 'body { display: none }';"
        "document.body.append(s)",
    ):
        browser.run(f"try {{ {attack} }} catch {{}}")
    assert browser.run("return window.hit || getComputedStyle(document.body).display") == "block"
    told = browser.complaints()
    assert len(told) == 3
    assert all(re.search("Content Security Policy|TrustedScript", each) for each in told), told


def test_the_documentation_runs_its_own_script_only(browser: Browser, url: str) -> None:
    browser.open(f"{url}/api/docs")
    # Swagger UI is not to be had here: that its own inline script was run is seen by its complaint.
    complaints = browser.complaints()
    assert any("SwaggerUIBundle is not defined" in each for each in complaints)
    assert not any("Content Security Policy" in each for each in complaints)


async def test_who_asks_only_whether_the_page_is_there_gets_its_head(
    client: httpx.AsyncClient,
) -> None:
    page, head = await client.get("/"), await client.head("/")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["etag"] == page.headers["etag"]


def test_the_image_holds_the_pages_files() -> None:
    files = Path(__file__).parents[2] / "app" / "orders" / "page"
    assert {each.name for each in files.iterdir()} == {"index.html", "live.js", "style.css"}
    markup = (files / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\ssrc=)|\son[a-z]+=|\sstyle=|<style", markup)
