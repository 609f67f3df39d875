"""Events: written with what they tell of, and read without a gap."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select, text, update

from orders.core.access import Principal, Role
from orders.core.database import transaction
from orders.core.errors import BusyError, TooManyError
from orders.core.event_cursor import KEPT, EventCursor
from orders.core.order_states import Actor, OrderStatus
from orders.core.rooms import Room
from orders.models import Order, OrderEvent, Ticket
from orders.repositories import events, tickets
from orders.services import order_changes
from orders.services.events import EventKind, between, record
from orders.stream.consumer import LONGEST_QUEUE, Consumer, Told
from orders.stream.hub import Hub
from orders.stream.message import GONE, SLOW, TOO_OLD
from orders.tasks.housekeeping import clean
from tests.orders.conftest import Live, settings_of
from tests.orders.factories import make_order, make_product, make_user


async def order_of(live: Live) -> Order:
    async with live.sessions() as session:
        return await make_order(session, await make_user(session), await make_product(session))


async def here(live: Live) -> EventCursor:
    async with live.sessions() as session:
        return await events.now(session)


async def seen(live: Live, since: EventCursor, until: EventCursor) -> list[int]:
    return [each.id async for each in between(live.sessions, since, until, Room())]


async def test_an_event_that_commits_late_is_neither_passed_over_nor_told_twice(live: Live) -> None:
    order = await order_of(live)
    start = await here(live)
    async with live.sessions() as slow, live.sessions() as quick:
        async with transaction(slow):
            await record(slow, order, EventKind.MOVED)  # has the lower id and transaction
            async with transaction(quick):
                await record(quick, order, EventKind.MOVED)
            middle = await here(live)
        end = await here(live)
    first, second = await seen(live, start, end)
    assert await seen(live, start, middle) == [second]
    assert await seen(live, middle, end) == [first]
    assert await seen(live, end, await here(live)) == []


async def test_a_transaction_that_stays_open_holds_up_nobody_elses_events(live: Live) -> None:
    order = await order_of(live)
    async with live.sessions() as idle, live.sessions() as session:
        await idle.execute(text("SELECT pg_current_xact_id()"))
        start = await here(live)
        async with transaction(session):
            await record(session, order, EventKind.MOVED)
        assert len(await seen(live, start, await here(live))) == 1
        await idle.rollback()


async def test_a_reader_beside_many_writers_hears_every_event_once(live: Live) -> None:
    order = await order_of(live)
    start = cursor = await here(live)
    heard: list[int] = []

    async def write(number: int) -> None:
        for step in range(10):
            async with live.sessions() as session, transaction(session):
                await record(session, order, EventKind.MOVED)
                await session.execute(text("SELECT pg_sleep(:s)"), {"s": (number + step) % 4 / 400})

    writers = asyncio.gather(*map(write, range(8)))
    while not writers.done():
        until = await here(live)
        heard += await seen(live, cursor, until)
        cursor = until
    await writers
    heard += await seen(live, cursor, await here(live))
    assert len(heard) == 80
    assert set(heard) == set(await seen(live, start, await here(live)))


async def test_an_order_and_what_is_told_of_it_are_stored_together_or_not_at_all(
    live: Live,
) -> None:
    start = await here(live)
    async with live.sessions() as session:
        user = await make_user(session)
        order = Order(user_id=user.id, total_cents=0, lines=[])
        async with transaction(session):
            await order_changes.add(session, order)
            await order_changes.advance(session, order, OrderStatus.CONFIRMED, Actor.CUSTOMER)
    async with live.sessions() as session:
        await order_changes.add(session, Order(user_id=user.id, total_cents=1, lines=[]))
        await session.rollback()
    told = [each async for each in between(live.sessions, start, await here(live), Room())]
    assert [(each.kind, each.order_id, each.user_id, each.payload) for each in told] == [
        (kind, order.id, user.id, {"status": status, "version": version, "total_cents": 0})
        for kind, status, version in (
            ("order.placed", "pending", 1),
            ("order.moved", "confirmed", 2),
        )
    ]


async def test_what_is_old_is_thrown_away(live: Live) -> None:
    order = await order_of(live)
    async with live.sessions() as session:
        async with transaction(session):
            for _ in range(2):
                await record(session, order, EventKind.MOVED)
            first = await session.scalar(select(func.min(OrderEvent.id)))
            await session.execute(
                update(OrderEvent)
                .where(OrderEvent.id == first)
                .values(at=func.now() - KEPT - timedelta(seconds=1))
            )
            for name, left in ((b"old", -1), (b"new", 30)):
                lifetime = timedelta(seconds=left)
                assert order.user_id
                await tickets.add(session, name, order.user_id, 0, lifetime)
        await clean(live.sessions)
        assert await session.scalar(select(func.count()).select_from(OrderEvent)) == 1
        kept = await session.scalars(select(Ticket.ticket_hash))
        assert kept.all() == [b"new"]


cursors = st.builds(
    lambda at, running, more: EventCursor(at, max(running, default=0) + 1 + more, running),
    st.integers(0, 2**40),
    st.frozensets(st.integers(0, 2**40), max_size=9),
    st.integers(0, 99),
)


@given(cursors)
def test_a_cursor_survives_its_way_to_the_client_and_back(cursor: EventCursor) -> None:
    assert EventCursor.parse(str(cursor)) == cursor


@given(st.text(max_size=40) | st.from_regex(r"[0-9.]{0,60}", fullmatch=True))
def test_whatever_a_client_sends_is_a_cursor_that_the_database_can_take_or_refused(
    wanted: str,
) -> None:
    with suppress(ValueError):
        cursor = EventCursor.parse(wanted)
        assert max(cursor.end, *cursor.running, 0) < 2**63


@pytest.mark.parametrize(
    "wrong", ["", "1", "1.2.3", "1.2.", "1.٣", "1.-2", f"1.{2**63}", "1.5" + ".4" * 5000]
)
def test_these_are_no_cursors(wrong: str) -> None:
    with pytest.raises(ValueError, match="no id of an event"):
        EventCursor.parse(wrong)


@pytest.mark.parametrize(
    ("age", "ahead", "resumable"), [(0, 0, True), (5, 0, True), (7, 0, False), (0, 1, False)]
)
def test_a_cursor_is_good_for_days_and_for_its_own_database(
    age: int, ahead: int, resumable: bool
) -> None:
    now = EventCursor(10**9, 500, frozenset())
    cursor = EventCursor(now.at - age * 86400, now.end + ahead, frozenset())
    assert cursor.can_be_resumed(now) is resumable


async def test_a_consumer_that_does_not_keep_up_is_ended_and_holds_nothing() -> None:
    consumer = Consumer(Principal(uuid4(), Role.CUSTOMER), Room())
    for number in range(LONGEST_QUEUE):
        consumer.put(Told(number, "{}"), "1.2")
    assert consumer.end is None
    consumer.put(Told(0, "{}"), "1.2")
    assert consumer.end is SLOW
    assert await consumer.next(60) is None
    consumer.close(GONE)
    assert consumer.end is SLOW


async def test_nobody_has_more_streams_than_they_may(live: Live) -> None:
    wanted = settings_of(live.app.state.settings.database_url.get_secret_value())
    limited = wanted.model_copy(update={"streams": 3, "streams_per_user": 2})
    hub = Hub(limited, live.sessions)
    ann, ben = (Principal(uuid4(), Role.CUSTOMER) for _ in range(2))
    room = Room()
    async with hub.running(asyncio.Event().wait):
        with hub.joined(ann, room):
            await hub.admit(ann)
            with hub.joined(ann, room):
                with pytest.raises(TooManyError, match="you have 2 streams open"):
                    await hub.admit(ann)
                await hub.admit(ben)
                with hub.joined(ben, room), pytest.raises(BusyError, match="this process can"):
                    await hub.admit(ben)
            await hub.admit(ann)


async def test_a_stream_lasts_no_longer_than_an_access_token_would(live: Live) -> None:
    hub = Hub(live.app.state.settings.model_copy(update={"access_token_seconds": 0}), live.sessions)
    with hub.joined(Principal(uuid4(), Role.CUSTOMER), Room()) as consumer:
        assert await consumer.next(60) is None
        assert consumer.end is TOO_OLD
