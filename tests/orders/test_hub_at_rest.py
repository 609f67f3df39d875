"""While nobody follows the stream, orders cost the process that takes them nothing more."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import event

from orders.core.access import Principal, Role
from orders.core.database import transaction
from orders.core.rooms import Room
from orders.services.events import EventKind, record
from orders.stream import hub as module
from orders.stream.hub import Hub
from orders.stream.listener import ORDER_EVENTS
from tests.orders.conftest import Live
from tests.orders.factories import make_order, make_product, make_user

PATIENCE = 20.0


async def test_what_happens_while_nobody_listens_is_read_when_somebody_does(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY", 3600.0)
    looks: list[str] = []

    def note(*arguments: object) -> None:
        looks.append(str(arguments[2]))

    async with live.sessions() as session:
        order = await make_order(session, await make_user(session), await make_product(session))

    async def happens() -> None:
        async with live.sessions() as session, transaction(session):
            await record(session, order, EventKind.MOVED)

    settings = live.app.state.settings
    hub, told, heard = Hub(settings, live.sessions), asyncio.Event(), asyncio.Queue[object]()
    admin, room = Principal(uuid4(), Role.ADMIN), Room()
    other = await asyncpg.connect(settings.database_url.get_secret_value())
    await other.add_listener(ORDER_EVENTS, lambda *_: heard.put_nowait(None))
    async with hub.running(asyncio.Event().wait), asyncio.timeout(PATIENCE):
        await hub.admit(admin)
        event.listen(live.sessions.kw["bind"].sync_engine, "after_cursor_execute", note)
        for _ in range(3):
            await happens()
            await heard.get()
            await asyncio.sleep(0.05)  # in which the hub would look, if it did
        assert not [each for each in looks if "pg_current_snapshot" in each]
        consumer = hub.join(admin, room)
        consumer.wake_by(told.set)
        await happens()
        await told.wait()
        hub.leave(consumer)
    await other.close()
