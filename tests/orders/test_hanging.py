"""A database that says nothing any more costs a request its time-out, and nothing on top."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from orders.core import pinging
from tests.freezing import Way
from tests.orders.conftest import Live, Start
from tests.orders.factories import PASSWORD, make_user

TIMEOUT = 1.5  # seconds


@pytest.fixture
async def way(own_url: str) -> AsyncIterator[Way]:
    async with Way(own_url).leading() as way:
        yield way


@pytest.fixture
def live(start: Start, way: Way) -> Live:
    return start(DATABASE_URL=way.url, database_command_timeout=TIMEOUT)


@pytest.mark.parametrize("idle", [5.0, 0.0], ids=["in use a moment ago", "idle"])
async def test_a_frozen_database_is_told_after_one_time_out_and_works_on_when_it_is_back(
    live: Live, way: Way, monkeypatch: pytest.MonkeyPatch, idle: float
) -> None:
    monkeypatch.setattr(pinging, "IDLE", idle)
    async with live.sessions() as session:
        form = {"username": (await make_user(session)).email, "password": PASSWORD}
    way.freeze()
    began = time.monotonic()
    answer = await live.client.post("/api/v1/auth/login", data=form)
    took = time.monotonic() - began
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert TIMEOUT <= took < 1.7 * TIMEOUT
    way.thaw()
    assert (await live.client.post("/api/v1/auth/login", data=form)).status_code == 200
