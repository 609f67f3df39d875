"""A read replica: for strangers, who have written nothing, and never for who may have."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from orders.core.access import Role
from orders.core.database import create_read_engine, create_sessions
from tests.orders.conftest import Live, Start, settings_of, speak_as
from tests.orders.factories import make_product, make_user, principal_of
from tests.replica import Replica, replica_of

PRODUCTS = "/api/v1/products"


@pytest.fixture
def replica(postgres: str, own_url: str) -> Iterator[Replica]:
    """A real one, streaming from the tests' own server."""
    with replica_of(postgres) as replica:
        yield replica


async def names(live: Live) -> list[str]:
    answer = await live.client.get(PRODUCTS)
    assert answer.status_code == 200, answer.text
    return [each["name"] for each in answer.json()]


async def test_strangers_read_the_replica_and_who_writes_reads_what_they_have_written(
    start: Start, own_url: str, replica: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    live = start(DATABASE_READ_URL=replica.url(own_url), cache_seconds=0)
    async with live.sessions() as session:
        admin = principal_of(await make_user(session, role=Role.ADMIN))
        await make_product(session, sku="a", name="Tea")
    replica.catch_up()
    assert await names(live) == ["Tea"]
    replica.pause()
    speak_as(live.app, admin)
    body = {"sku": "b", "name": "Coffee", "price_cents": 1}
    made = await live.client.post(PRODUCTS, json=body)
    assert await names(live) == ["Tea", "Coffee"]
    assert (await live.client.get(made.headers["location"])).json() == made.json()
    speak_as(live.app, None)
    assert await names(live) == ["Tea"]
    assert (await live.client.get(made.headers["location"])).status_code == 404
    replica.catch_up()
    assert await names(live) == ["Tea", "Coffee"]
    # Without it strangers are served from the primary.
    replica.stop()
    with caplog.at_level(logging.WARNING, "orders"):
        assert [await names(live) for _ in range(3)] == [["Tea", "Coffee"]] * 3
    assert len([each for each in caplog.messages if "DATABASE_READ_URL" in each]) == 1


async def test_nothing_can_be_written_by_a_session_that_reads_even_where_it_could(
    own_url: str,
) -> None:
    settings = settings_of(own_url, DATABASE_READ_URL=own_url)  # the primary, by mistake
    engine = create_read_engine(settings)
    assert engine
    async with create_sessions(engine)() as session:
        with pytest.raises(DBAPIError, match="read-only transaction"):
            await session.execute(text("DELETE FROM products"))
    await engine.dispose()


def test_without_a_replica_there_is_no_engine(own_url: str) -> None:
    assert create_read_engine(settings_of(own_url)) is None
