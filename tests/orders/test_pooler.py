"""The service behind a real PgBouncer that lends a server connection for one transaction only."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from orders.core.access import Role
from tests.orders.conftest import Live, Start, speak_as
from tests.orders.factories import lines, make_product, make_user, principal_of
from tests.pgbouncer import pgbouncer
from tests.ports import free_ports

ORDERS = "/api/v1/orders"


@pytest.fixture
def pooled_url(own_url: str, tmp_path: Path) -> Iterator[str]:
    """The test's own database, through a pooler with two server connections."""
    port, _ = free_ports()
    with pgbouncer(own_url, tmp_path, port, pool_mode="transaction", pool_size=2) as url:
        yield url


async def test_two_replicas_share_two_connections_and_every_request_is_served(
    pooled_url: str, start: Start
) -> None:
    replicas = [
        start(DATABASE_URL=pooled_url, database_pooler=True, database_pool_size=5) for _ in range(2)
    ]
    async with replicas[0].sessions() as session:
        user, tea = await make_user(session, role=Role.ADMIN), await make_product(session, stock=40)
    for replica in replicas:
        speak_as(replica.app, principal_of(user))

    async def work(replica: Live, number: int) -> list[int]:
        client = replica.client
        key = {"idempotency-key": str(number)}
        placed = [await client.post(ORDERS, json=lines((tea, 1)), headers=key) for _ in range(2)]
        path = placed[0].headers["location"]
        moved = await client.patch(path, json={"status": "confirmed"}, headers={"if-match": "*"})
        answers = [*placed, moved, await client.get(path), await client.get(ORDERS)]
        return [answer.status_code for answer in answers]

    rounds = await asyncio.gather(*(work(replica, n) for n in range(20) for replica in replicas))
    # Both replicas send each key twice: it is one order, which is confirmed once.
    assert Counter(map(tuple, rounds)) == {
        (201, 201, 200, 200, 200): 20,
        (201, 201, 409, 200, 200): 20,
    }
    exported = await replicas[0].client.get(f"{ORDERS}/export.csv")
    assert len(exported.text.splitlines()) == 1 + 20
    assert exported.text.splitlines()[1].endswith("+00")  # UTC, whoever had it before
