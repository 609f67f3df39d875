"""Workers as processes: killed under load, ended by SIGTERM, looked at from outside."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from orders.core.database import transaction
from orders.models import Order, Payment
from orders.services import payments
from tests.orders.command import Command
from tests.orders.conftest import Live
from tests.orders.factories import make_order, make_product, make_user
from tests.orders.payment_server import (
    Asked,
    PaymentServer,
    authorise,
    authorise_but_fail,
    hang,
    payment_server,
)
from tests.orders.processes import Served, end_all
from tests.orders.workers import start_worker
from tests.sinks.fixtures import otlp_sink as otlp_sink
from tests.sinks.otlp_sink import OtlpSink
from tidegate.schema import Manifest, Phase, Revision

StartWorker = Callable[..., Served]
ORDERS = 40


@pytest.fixture
async def server() -> AsyncIterator[PaymentServer]:
    async with payment_server() as running:
        yield running


@pytest.fixture
def worker(own_url: str, server: PaymentServer) -> Iterator[StartWorker]:
    started: list[Served] = []

    def start(**environment: str) -> Served:
        settings = {"DATABASE_URL": own_url, "APP_PAYMENTS_URL": server.url}
        started.append(start_worker(**settings | environment))
        return started[-1]

    yield start
    end_all(started)


async def place(live: Live, count: int) -> list[Payment]:
    """Store orders that are to be paid for, with their tasks due at once."""
    placed: list[Payment] = []
    async with live.sessions() as session:
        user, tea = await make_user(session), await make_product(session)
        for _ in range(count):
            order = await make_order(session, user, tea)
            async with transaction(session):
                placed.append(await payments.begin(session, order, "pm_card"))
        async with transaction(session):
            await session.execute(text("UPDATE pgqueuer SET execute_after = now()"))
    return placed


async def until_done(live: Live) -> None:
    async with asyncio.timeout(150), live.sessions() as session:
        while await session.scalar(text("SELECT count(*) FROM pgqueuer")):
            await session.rollback()
            await asyncio.sleep(0.1)


async def test_workers_killed_under_load_lose_no_order_and_confirm_none_twice(
    live: Live, server: PaymentServer, worker: StartWorker
) -> None:
    async def slowly_and_not_always(server: PaymentServer, asked: Asked) -> bytes:
        await asyncio.sleep(0.05)
        lost = sum(each.key == asked.key for each in server.asked) == 1 and asked.key < "8"
        return await (authorise_but_fail if lost else authorise)(server, asked)

    server.answer = slowly_and_not_always
    placed = await place(live, ORDERS)
    victims = [worker(), worker()]
    for times, victim in zip((8, 30), victims, strict=True):
        await server.until_asked(times)  # so that it dies with tasks in its hands
        victim.kill()
    worker()
    await until_done(live)

    assert set(server.authorised) == {str(each.id) for each in placed}
    assert len(server.asked) > ORDERS  # somebody did ask again
    async with live.sessions() as session:
        for each in placed:
            order = await session.get_one(Order, each.order_id)
            # Two steps: it was to be paid for, and it was confirmed. A second confirmation would
            # have been a third.
            assert (order.status, order.version) == ("confirmed", 3)


async def test_a_worker_gives_back_what_hangs_at_sigterm_and_ends_in_time(
    live: Live, server: PaymentServer, worker: StartWorker
) -> None:
    server.answer = hang
    await place(live, 2)
    running = worker(APP_PAYMENTS_TIMEOUT="60")
    await server.until_asked(2)
    await running.terminate()
    async with live.sessions() as session:
        states = await session.scalars(text("SELECT status::text FROM pgqueuer"))
        assert states.all() == ["queued", "queued"]


async def test_a_worker_is_looked_at_as_any_process_is(
    live: Live,
    server: PaymentServer,
    worker: StartWorker,
    otlp_sink: OtlpSink,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    ids = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01", "x-request-id": "order-7"}
    monkeypatch.setattr("orders.tasks.queue.carry", lambda: ids)
    await place(live, 1)
    running = worker(OTEL_EXPORTER_OTLP_ENDPOINT=otlp_sink.http, OTEL_BSP_SCHEDULE_DELAY="100")
    await running.until_ready()
    await until_done(live)
    async with httpx.AsyncClient(base_url=running.admin) as admin:
        assert (await admin.get("/health/live")).json() == {"status": "ok"}
        metrics = (await admin.get("/metrics")).text
    assert 'tidegate_tasks_total{outcome="succeeded",task="authorise_payment"} 1.0' in metrics
    assert 'orders_payment_calls_total{outcome="authorised"} 1.0' in metrics
    assert 'application="orders-worker"' in metrics
    output = await running.terminate()

    (line,) = [
        each
        for each in map(json.loads, output.splitlines())
        if each["logger"] == "tidegate.worker" and "outcome" in each
    ]
    assert (line["request_id"], line["trace_id"]) == ("order-7", trace)
    spans = {span.name: span for span in otlp_sink.spans() if span.trace_id == trace}
    task, call = spans["authorise_payment"], spans["POST /authorisations"]
    assert (task.kind, task.parent_span_id) == ("consumer", "00f067aa0ba902b7")
    assert (call.kind, call.parent_span_id) == ("client", task.span_id)
    (asked,) = server.asked
    assert asked.headers["traceparent"] == f"00-{trace}-{call.span_id}-01"


async def test_a_worker_waits_for_its_schema(
    database_url: str, worker: StartWorker, tmp_path: Path
) -> None:
    manifest = tmp_path / "manifest.json"
    manifest.write_text(Manifest.of([Revision("0001", Phase.EXPAND, ())]).to_json())
    running = worker(DATABASE_URL=database_url, TIDEGATE_MANIFEST=str(manifest))
    answer = await running.until(lambda answer: "schema" in answer.text)
    assert answer.status_code == 503
    assert "behind: the database lacks 0001" in answer.text
    await running.terminate()


def test_a_worker_behind_a_pooler_wants_to_know_the_way_past_it(command: Command) -> None:
    given = {"DATABASE_URL": "postgresql://pooler/orders", "APP_DATABASE_POOLER": "true"}
    ended = command("worker", APP_ENV="development", **given)
    assert ended.returncode == 2
    assert "DIRECT_URL is not set" in ended.stderr
