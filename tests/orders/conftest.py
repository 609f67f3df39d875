"""The service in process, on real PostgreSQL.

Two ways to a database. `client` works inside one transaction that is rolled back at the end: fast,
and for one request at a time, since all share a connection. `live` has a database of its own,
where commits are commits and requests race: for what is about concurrency.
"""

from __future__ import annotations

import ssl
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import uvloop
from fastapi import FastAPI
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.pool import NullPool

from orders.api.deps import optional_user
from orders.core import passwords
from orders.core.access import Principal
from orders.core.database import Sessions
from orders.core.settings import OrdersSettings
from orders.main import create_app
from orders.models import User
from orders.repositories.lookups import Lookups
from tests.orders.command import command as command
from tests.orders.databases import copy_database, migrate
from tests.orders.declared import Declared
from tests.orders.factories import principal_of
from tests.postgres import create_database, drop_database
from tests.redis_server import RedisServer
from tests.redis_server import redis_server as run_redis_server
from tidegate import asyncpg_url

# Not http: the refresh cookie is for secure connections only.
BASE_URL = "https://orders.example.org"

SignIn = Callable[[User | None], None]
Start = Callable[..., "Live"]

COSTLY = passwords.HASHER
CHEAP = PasswordHash((Argon2Hasher(memory_cost=8, time_cost=1, parallelism=1),))


SLOWEST = (
    "test_contract",
    "test_streams",
    "test_streams_interrupted",
    "test_queue_processes",
    "test_queue",
    "test_paying",
    "test_payments",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that all cores end at about the same time."""
    rank = {name: place for place, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@pytest.fixture(scope="session", autouse=True)
def what_takes_long_and_is_no_matter_here() -> Iterator[None]:
    """Hashing, slow on purpose (but for `costly_passwords`); a client's reading of all CAs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "HASHER", CHEAP)
        patch.setattr(ssl, "create_default_context", cache(ssl.create_default_context))
        yield


@pytest.fixture
def costly_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash passwords as the service does."""
    monkeypatch.setattr(passwords, "HASHER", COSTLY)


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], AbstractEventLoop]]:
    """Run tests on the service's own event loop."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def orders_template(postgres: str, orders_alembic: Path) -> str:
    """The name of a migrated database that nobody connects to: to copy."""
    name = f"template_{uuid4().hex}"
    migrate(create_database(postgres, name), orders_alembic)
    return name


@pytest.fixture(scope="session")
def shared_url(postgres: str, orders_template: str) -> Iterator[str]:
    """The database of all tests that roll back."""
    name = f"shared_{uuid4().hex}"
    yield copy_database(postgres, orders_template, name)
    drop_database(postgres, name)


@pytest.fixture
def own_url(postgres: str, orders_template: str) -> Iterator[str]:
    """A migrated database of the test's own."""
    name = f"own_{uuid4().hex}"
    yield copy_database(postgres, orders_template, name)
    drop_database(postgres, name)


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own."""
    with run_redis_server(tmp_path) as server:
        yield server


def settings_of(url: str, **changes: Any) -> OrdersSettings:  # noqa: ANN401 - any setting
    """The settings of a test: a slow machine must not look like a database that is away."""
    wanted: dict[str, Any] = {"env": "development", "DATABASE_URL": url}
    patience = {"database_pool_timeout": 60, "database_command_timeout": 60}
    # What a test rolls back no cache hears of, and all tests have one address.
    apart = {"cache_seconds": 0, "login_rate_limit": "off"}
    return OrdersSettings(**(wanted | patience | apart | changes))


@pytest.fixture(scope="session")
def shared_app(shared_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    """One application for all tests that roll back; each gives it sessions of its own."""
    files = tmp_path_factory.mktemp("files")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIDEGATE_LOG_FORMAT", "off")  # the process's log is pytest's
        yield create_app(settings_of(shared_url, files_directory=files))


@pytest.fixture(scope="session")
def shared_engine(shared_url: str) -> AsyncEngine:
    """Opens a connection for each test, and knows what SQL the tests before had compiled."""
    return create_async_engine(asyncpg_url(shared_url), poolclass=NullPool)


@pytest.fixture
async def sessions(shared_engine: AsyncEngine) -> AsyncIterator[Sessions]:
    """Sessions whose commits end with the test."""
    async with shared_engine.connect() as connection:
        outer = await connection.begin()
        yield async_sessionmaker(
            connection, expire_on_commit=False, join_transaction_mode="create_savepoint"
        )
        await outer.rollback()


@pytest.fixture
async def session(sessions: Sessions) -> AsyncIterator[AsyncSession]:
    """What a test itself reads and writes with."""
    async with sessions() as session:
        yield session


@pytest.fixture
async def lookups(sessions: Sessions) -> Lookups:
    """Lookups on the same connection."""
    connection = await sessions.kw["bind"].get_raw_connection()
    return Lookups(lambda: nullcontext(connection.driver_connection))


@pytest.fixture
def app(shared_app: FastAPI, sessions: Sessions, lookups: Lookups) -> Iterator[FastAPI]:
    """The application on this test's transaction."""
    state = shared_app.state
    before = state.sessions, state.readers, state.lookups
    state.sessions = state.readers = sessions
    state.lookups = lookups
    yield shared_app
    state.sessions, state.readers, state.lookups = before
    shared_app.dependency_overrides.clear()


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of it, which gets no answer that is not declared; a fault is a 500."""
    async with client_of(app, event_hooks={"response": [Declared(app.openapi())]}) as client:
        yield client


@pytest.fixture
def sign_in(app: FastAPI) -> SignIn:
    """Let every later request be a user's, or nobody's, without tokens."""

    def become(user: User | None) -> None:
        speak_as(app, principal_of(user) if user else None)

    return become


def speak_as(app: FastAPI, principal: Principal | None) -> None:
    """Let every later request be this principal's, without tokens."""
    app.dependency_overrides[optional_user] = lambda: principal


def client_of(app: FastAPI, **options: Any) -> httpx.AsyncClient:  # noqa: ANN401 - httpx's
    """Return a client of an application in this process."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url=BASE_URL, **options)


@dataclass
class Live:
    """An application on a database of its own, with real commits."""

    app: FastAPI
    client: httpx.AsyncClient
    sessions: Sessions


@pytest.fixture
async def start(own_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    """Start the application on the test's own database, with settings of its own."""
    monkeypatch.setenv("TIDEGATE_LOG_FORMAT", "off")
    started: list[Live] = []

    def start(**settings: Any) -> Live:  # noqa: ANN401 - any setting
        app = create_app(settings_of(own_url, **settings))
        started.append(Live(app, client_of(app), app.state.sessions))
        return started[-1]

    yield start
    for live in started:
        await live.client.aclose()
        await live.app.state.close()


@pytest.fixture
def live(start: Start) -> Live:
    """The application on the test's own database."""
    return start()
