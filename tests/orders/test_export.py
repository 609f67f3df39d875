"""The export of orders: CSV as it is made, with connections of its own."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from orders.api.deps import optional_user
from orders.core import exports
from orders.core.access import Role
from orders.core.errors import BusyError
from orders.core.spreadsheet import neutral, neutral_sql
from orders.models import User
from tests.orders.conftest import Live, Start, speak_as
from tests.orders.factories import make_order, make_product, make_user, principal_of

EXPORT = "/api/v1/orders/export.csv"
# Enough that no buffer on the way holds it.
MANY = 20_000
FILL = text(
    "INSERT INTO orders (user_id, total_cents, created_at) "
    "SELECT :user, n, now() - n * interval '1 s' FROM generate_series(1, :many) n"
)
EXPORTING = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
    "AND query LIKE 'COPY%' AND state <> 'idle'"
)


def rows_of(answer: httpx.Response) -> list[dict[str, str]]:
    assert answer.status_code == 200, answer.text
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


async def test_an_export_is_ones_own_and_an_admins_of_all(live: Live) -> None:
    async with live.sessions() as session:
        ann = await make_user(session, name='=HYPERLINK("http://evil.example.org","a")')
        bob = await make_user(session, name='Bob, "the\nbuilder"')
        tea = await make_product(session)
        at = datetime(2026, 1, 2, 3, 4, 5, 678, UTC)
        first = await make_order(session, ann, tea, created_at=at)
        second = await make_order(session, bob, tea)
        admin = await make_user(session, role=Role.ADMIN)
    speak_as(live.app, principal_of(ann))
    answer = await live.client.get(EXPORT)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="orders.csv"'
    assert rows_of(answer) == [
        {
            "id": str(first.id),
            "user_id": str(ann.id),
            "customer_email": ann.email,
            "customer_name": f"'{ann.name}",
            "status": "pending",
            "total_cents": "450",
            "created_at": "2026-01-02 03:04:05.000678+00",
        }
    ]
    speak_as(live.app, principal_of(admin))
    everybodys = rows_of(await live.client.get(EXPORT))
    assert [row["id"] for row in everybodys] == [str(first.id), str(second.id)]
    assert everybodys[1]["customer_name"] == bob.name
    speak_as(live.app, principal_of(await nobody_yet(live)))
    assert rows_of(await live.client.get(EXPORT)) == []
    speak_as(live.app, None)
    assert (await live.client.get(EXPORT)).status_code == 401


async def nobody_yet(live: Live) -> User:
    async with live.sessions() as session:
        return await make_user(session)


async def test_the_database_neutralises_as_python_does(session: AsyncSession) -> None:
    begins = ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20"]
    assert all(neutral(each) == f"'{each}" for each in begins)
    begins += ["'", " =", "a=", "%", ":x", '"', ""]
    for each in begins:
        for value in (each, f"{each}1+1", f"{each}\\"):
            bound = text("SELECT :value AS value").columns(value=User.name.type)
            column = bound.bindparams(value=value).subquery().c.value
            assert await session.scalar(select(neutral_sql(column))) == neutral(value)


class Slow:
    """A client in process that takes so many chunks of an answer, and then none."""

    def __init__(self, live: Live, chunks: int) -> None:
        self.taken: list[bytes] = []
        self.full = asyncio.Event()
        self.leave = asyncio.Event()
        self._chunks = chunks
        self._goes_on = asyncio.Event()
        self._live = live

    async def ask(self) -> None:
        scope: dict[str, Any] = {"type": "http", "method": "GET", "path": EXPORT, "headers": []}
        scope |= {"query_string": b"", "root_path": "", "scheme": "https", "http_version": "1.1"}
        scope |= {"server": ("orders.example.org", 443), "client": ("127.0.0.1", 1)}
        scope |= {"raw_path": EXPORT.encode(), "asgi": {"version": "3.0", "spec_version": "2.3"}}
        await self._live.app(scope, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        await self.leave.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        self.taken.append(message.get("body", b""))
        if len(self.taken) > self._chunks:
            self.full.set()
            await self._goes_on.wait()


@pytest.fixture
async def busy(start: Start) -> Live:
    """A service that makes one export at a time, over a great many orders."""
    live = start(exports_at_once=1, database_pool_timeout=0.2)
    async with live.sessions() as session:
        user = await make_user(session)
        await session.execute(FILL, {"user": user.id, "many": MANY})
        await session.commit()
    live.app.dependency_overrides[optional_user] = lambda: principal_of(user)
    return live


async def exporting(live: Live) -> int:
    async with live.sessions() as session:
        return await session.scalar(EXPORTING) or 0


async def until_none_exports(live: Live) -> None:
    async with asyncio.timeout(10):
        while await exporting(live):  # noqa: ASYNC110 - the event is in another process
            await asyncio.sleep(0.02)


async def test_when_the_client_goes_the_transaction_ends(busy: Live) -> None:
    slow = Slow(busy, chunks=3)
    asking = asyncio.create_task(slow.ask())
    await slow.full.wait()
    assert await exporting(busy) == 1
    assert sum(map(len, slow.taken)) < 1_000_000  # of 3 MB: made as it is taken

    again = await busy.client.get(EXPORT)
    assert (again.status_code, again.headers["retry-after"]) == (429, "2")
    assert "you are sent an export already" in again.json()["detail"]
    ann = busy.app.dependency_overrides[optional_user]
    speak_as(busy.app, principal_of(await nobody_yet(busy)))
    refused = await busy.client.get(EXPORT)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
    assert "as many exports" in refused.json()["detail"]

    slow.leave.set()
    await asking
    await until_none_exports(busy)
    busy.app.dependency_overrides[optional_user] = ann
    whole = await busy.client.get(EXPORT)  # the connection is free, and good
    assert whole.status_code == 200
    assert whole.content.count(b"\n") == MANY + 1


async def test_when_the_request_is_cancelled_the_transaction_ends(busy: Live) -> None:
    slow = Slow(busy, chunks=2)
    asking = asyncio.create_task(slow.ask())
    await slow.full.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await until_none_exports(busy)


@pytest.mark.parametrize("bound", ["for the whole", "for a chunk"])
async def test_a_reader_who_stands_still_is_not_waited_for(
    start: Start, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    live = start(export_seconds=1 if bound == "for the whole" else 600)
    if bound == "for a chunk":
        monkeypatch.setattr(exports, "STANDSTILL", 0.3)
    async with live.sessions() as session:
        user = await make_user(session)
        await session.execute(FILL, {"user": user.id, "many": MANY})
        await session.commit()
    speak_as(live.app, principal_of(user))
    slow = Slow(live, chunks=2)
    with pytest.raises(RuntimeError) as cut_off:  # so that the server breaks the connection off
        async with asyncio.timeout(20):
            await slow.ask()
    assert isinstance(cut_off.value.__cause__, BusyError)
    assert len(slow.taken) > 2
    await until_none_exports(live)
