"""Clients of the live stream, and service processes that serve it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
import psycopg
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from orders.core.access import Role
from orders.core.database import Sessions, transaction
from orders.core.order_states import Actor, OrderStatus
from orders.core.tokens import Tokens
from orders.models import Order, User
from orders.services import order_changes, tickets
from tests.migrate.conftest import clean_environment
from tests.orders.conftest import settings_of
from tests.orders.factories import make_user, principal_of
from tests.orders.forked import Forked
from tests.orders.processes import Served
from tests.ports import free_ports

PATIENCE = 20.0


@dataclass
class Replica(Served):
    """`tidegate serve orders.main:app`."""

    url: str

    async def metric(self, name: str) -> float:
        """Return a metric without labels."""
        async with httpx.AsyncClient(base_url=self.admin) as client:
            lines = (await client.get("/metrics")).text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    @asynccontextmanager
    async def websocket(
        self,
        *protocols: str,
        query: str = "",
        **options: Any,  # noqa: ANN401 - websockets' own
    ) -> AsyncIterator[ClientConnection]:
        """Open a WebSocket with what it offers."""
        url = f"{self.url.replace('http', 'ws')}/api/v1/ws{query}"
        offered = [Subprotocol(each) for each in ("orders.v1", *protocols)]
        async with connect(url, subprotocols=offered, proxy=None, **options) as opened:
            yield opened

    @asynccontextmanager
    async def events(self, token: str, query: str = "", **headers: str) -> AsyncIterator[Events]:
        """Open a stream of server-sent events."""
        headers = {"authorization": f"Bearer {token}", **headers}
        async with httpx.AsyncClient(base_url=self.url, timeout=PATIENCE) as client:
            async with client.stream("GET", f"/api/v1/events{query}", headers=headers) as answer:
                yield Events(answer)


@dataclass
class Events:
    """What a stream of server-sent events says, as EventSource would read it."""

    answer: httpx.Response
    last_event_id: str = ""
    retry: int = 0
    comments: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lines = self.answer.aiter_lines()

    async def until_id(self) -> str:
        """Read until an id was told; return it."""
        while not self.last_event_id:
            await self._block()
        return self.last_event_id

    async def comment(self) -> str:
        """Read until a comment was made; return it."""
        while not self.comments:
            await self._block()
        return self.comments[0]

    async def next(self) -> tuple[str, Any]:
        """Return the next event's name and data."""
        while True:
            if found := await self._block():
                return found

    async def _block(self) -> tuple[str, Any] | None:
        name, data = "message", None
        async with asyncio.timeout(PATIENCE):
            async for line in self._lines:
                key, _, value = line.partition(": ")
                if not line:
                    return None if data is None else (name, json.loads(data))
                match key:
                    case "id":
                        self.last_event_id = value
                    case "event":
                        name = value
                    case "data":
                        data = value
                    case "retry":
                        self.retry = int(value)
                    case _:
                        self.comments.append(value)
        raise EOFError


async def hear(websocket: ClientConnection, *, pings: bool = False) -> dict[str, Any]:
    """Return a WebSocket's next message, if it is no ping."""
    async with asyncio.timeout(PATIENCE):
        while True:
            said: dict[str, Any] = json.loads(await websocket.recv())
            if pings or said["type"] != "ping":
                return said


async def until_closed(websocket: ClientConnection) -> tuple[int | None, str | None]:
    """Wait for the end; return code and reason."""
    async with asyncio.timeout(PATIENCE):
        await websocket.wait_closed()
    return websocket.close_code, websocket.close_reason


def token_of(url: str, user: User) -> str:
    """Sign the user in, without the password's slow hash."""
    settings = settings_of(url)
    ring, lifetime = settings.key_ring(), timedelta(minutes=5)
    tokens = Tokens(ring, settings.jwt_issuer, settings.jwt_audience, lifetime)
    return tokens.issue(user.id, Role(user.role), user.token_version)


def start_replica(**environment: str) -> Replica:
    """Start one; whoever starts it also ends it."""
    port, admin_port = free_ports()
    settings = {
        "APP_ENV": "development",
        "TIDEGATE_HOST": "127.0.0.1",
        "TIDEGATE_PORT": str(port),
        "TIDEGATE_ADMIN_PORT": str(admin_port),
        "TIDEGATE_DRAIN_DELAY": "0.5",
        "TIDEGATE_DRAIN_TIMEOUT": "10",
        "TIDEGATE_CHECK_CACHE": "0.1",
    }
    command = ["tidegate.cli", "serve", "orders.main:app"]
    process = Forked(command, clean_environment() | settings | environment)
    return Replica(process, f"http://127.0.0.1:{admin_port}", f"http://127.0.0.1:{port}")


@dataclass
class Customer:
    """A user, signed in, whose orders come and go."""

    sessions: Sessions
    user: User
    token: str

    @property
    def bearer(self) -> str:
        return f"bearer.{self.token}"

    async def order(self) -> Order:
        order = Order(user_id=self.user.id, total_cents=450, lines=[])
        async with self.sessions() as session, transaction(session):
            await order_changes.add(session, order)
        return order

    async def confirm(self, order: Order) -> None:
        async with self.sessions() as session, transaction(session):
            await order_changes.advance(session, order, OrderStatus.CONFIRMED, Actor.CUSTOMER)

    async def ticket(self) -> str:
        async with self.sessions() as session:
            return f"ticket.{await tickets.issue(session, principal_of(self.user))}"


async def sign_in(url: str, sessions: Sessions, role: Role = Role.CUSTOMER) -> Customer:
    async with sessions() as session:
        user = await make_user(session, role=role)
    return Customer(sessions, user, token_of(url, user))


def insert_event(connection: psycopg.Connection, order: Order) -> int:
    """Write an event as a transaction of its own; return its id."""
    row = connection.execute(
        "INSERT INTO order_events (order_id, user_id, kind, payload) "
        "VALUES (%s, %s, 'order.moved', %s) RETURNING id",
        [order.id, order.user_id, '{"status": "confirmed", "version": 2, "total_cents": 450}'],
    ).fetchone()
    assert row
    return int(row[0])
