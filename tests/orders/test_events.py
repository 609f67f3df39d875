"""Events: written with what they tell of, and read without a gap."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
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
from orders.stream.follow import follow
from orders.stream.hub import Hub
from orders.stream.message import GONE, SLOW, TOO_OLD, End, Kind, Message
from orders.tasks.housekeeping import clean
from tests.orders.conftest import Live, settings_of
from tests.orders.factories import make_order, make_product, make_user, principal_of

PATIENCE = 30.0
MOVES = text("""
    INSERT INTO order_events (order_id, user_id, kind, payload)
    SELECT :order, :user, 'order.moved', '{"status": "pending", "version": 1, "total_cents": 450}'
    FROM generate_series(1, :times)
""")


async def order_of(live: Live) -> Order:
    async with live.sessions() as session:
        return await make_order(session, await make_user(session), await make_product(session))


async def here(live: Live) -> EventCursor:
    async with live.sessions() as session:
        return await events.now(session)


async def seen(live: Live, since: EventCursor, until: EventCursor) -> list[int]:
    return [each.id async for each in between(live.sessions, since, until, Room())]


async def happen(live: Live, order: Order, times: int) -> None:
    """Let so much happen to an order, in one transaction."""
    async with live.sessions() as session, transaction(session):
        values = {"order": order.id, "user": order.user_id, "times": times}
        await session.execute(MOVES, values)


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


@dataclass
class Reader:
    """A client that reads all it is told; while it reads one message, something happens."""

    at: int
    happens: Callable[[], Awaitable[None]]
    told: list[Message | End] = field(default_factory=list)
    ended: bool = False
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def say(self, said: Message | End) -> None:
        self.told.append(said)
        self.ended = isinstance(said, End)
        async with self.changed:
            self.changed.notify_all()
        if len(self.told) == self.at:
            await self.happens()

    async def until_gone(self) -> End:
        await self.gone.wait()
        return GONE

    async def until(self, number: int) -> None:
        """Wait until so many messages were told, or the last."""
        async with self.changed:
            await self.changed.wait_for(lambda: len(self.told) >= number or self.ended)

    def heard(self) -> list[tuple[int, str]]:
        """List what was told by now: an event's id, and the id to come back with."""
        return [
            (json.loads(each.event)["id"], each.last_event_id)
            for each in self.told
            if isinstance(each, Message) and each.kind is Kind.EVENT
        ]


async def test_who_has_missed_much_catches_up_while_more_happens_than_a_queue_holds(
    live: Live,
) -> None:
    order = await order_of(live)
    async with live.sessions() as session:
        admin = principal_of(await make_user(session, role=Role.ADMIN))
    hub, start = Hub(live.app.state.settings, live.sessions), await here(live)
    for _ in range(14):
        await happen(live, order, 50)
    async with live.sessions() as slow, transaction(slow):
        # Its number is lower than those of the others, and its event comes last.
        await slow.execute(text("SELECT pg_current_xact_id()"))
        for _ in range(16):
            await happen(live, order, 50)
        await record(slow, order, EventKind.MOVED)
    missed, meanwhile = 30 * 50 + 1, 2 * LONGEST_QUEUE
    witness, witnessed = hub.join(admin, Room()), asyncio.Semaphore(0)

    def note() -> None:
        if witness.take():
            witnessed.release()

    witness.wake_by(note)

    async def much_happens() -> None:
        await happen(live, order, meanwhile)
        for _ in range(meanwhile):  # as the hub tells it, too
            await witnessed.acquire()

    reader = Reader(missed - 100, much_happens)
    async with hub.running(asyncio.Event().wait), asyncio.timeout(PATIENCE):
        await hub.admit(admin)
        following = asyncio.create_task(follow(hub, admin, Room(), start, reader))
        await reader.until(missed + meanwhile + 1)
        await happen(live, order, 1)
        await reader.until(missed + meanwhile + 2)
        reader.gone.set()
        await following
        hub.leave(witness)

    end = await here(live)
    heard = reader.heard()
    everything = await seen(live, start, end)
    assert [each for each, _ in heard] == everything
    kinds = [each.kind for each in reader.told if isinstance(each, Message)]
    assert kinds.count(Kind.READY) == 1
    # A break at any moment costs some of it, not all, and nothing is missed after it.
    marks = {last: place for place, (_, last) in reversed([*enumerate(heard, 1)])}
    assert list(marks.values()) == [2014, 1502, 1000, 500, 1]
    for last, place in marks.items():
        again = await seen(live, EventCursor.parse(last), end)
        assert {*everything[:place], *again} == {*everything}


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


@st.composite
def ways(draw: st.DrawFn) -> tuple[EventCursor, int, EventCursor]:
    """Two looks, the later of which sees all that the earlier does, and a place between them."""
    numbers = st.frozensets(st.integers(0, 60), max_size=9)
    sooner, later = sorted(draw(st.tuples(st.integers(0, 60), st.integers(0, 60))))
    still = draw(numbers)
    return (
        EventCursor(1, sooner, frozenset(each for each in still | draw(numbers) if each < sooner)),
        draw(st.integers(0, later)),
        EventCursor(2, later, frozenset(each for each in still if each < later)),
    )


@given(ways())
def test_on_the_way_between_two_looks_a_reader_sees_the_second_as_far_as_it_has_read(
    way: tuple[EventCursor, int, EventCursor],
) -> None:
    since, place, until = way
    midway = since.having_read_before(place, until)
    assert [midway.sees(each) for each in range(65)] == [
        since.sees(each) or (each < place and until.sees(each)) for each in range(65)
    ]
    assert EventCursor.parse(str(midway)) == midway
    assert midway.at == since.at


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
    consumer = Consumer(Principal(uuid4(), Role.CUSTOMER), Room(), now=0)
    woken: list[object] = []
    consumer.wake_by(lambda: woken.append(consumer.end))
    for number in range(LONGEST_QUEUE):
        consumer.put(Told(number, "{}"), "1.2")
    assert woken == [None] * LONGEST_QUEUE
    consumer.put(Told(0, "{}"), "1.2")
    assert woken[-1] is SLOW
    assert consumer.take() is None
    consumer.close(GONE)
    consumer.put(Told(0, "{}"), "1.2")
    assert consumer.end is SLOW
    assert consumer.take() is None


def test_a_heartbeat_waits_only_where_nothing_else_does() -> None:
    consumer = Consumer(Principal(uuid4(), Role.CUSTOMER), Room(), now=0)
    told = Told(1, "{}")
    consumer.put(told, "1.2")
    consumer.ping(20)
    assert [consumer.take(), consumer.take(), consumer.told] == [(told, "1.2"), None, 0]
    consumer.ping(20)
    assert [consumer.take(), consumer.take(), consumer.told] == [(None, ""), None, 20]


async def test_nobody_has_more_streams_than_they_may(live: Live) -> None:
    wanted = settings_of(live.app.state.settings.database_url.get_secret_value())
    limited = wanted.model_copy(update={"streams": 3, "streams_per_user": 2})
    hub = Hub(limited, live.sessions)
    ann, ben = (Principal(uuid4(), Role.CUSTOMER) for _ in range(2))
    async with hub.running(asyncio.Event().wait):
        first = hub.join(ann, Room())
        await hub.admit(ann)
        second = hub.join(ann, Room())
        with pytest.raises(TooManyError, match="you have 2 streams open"):
            await hub.admit(ann)
        await hub.admit(ben)
        third = hub.join(ben, Room())
        with pytest.raises(BusyError, match="this process can"):
            await hub.admit(ben)
        hub.leave(third)
        hub.leave(second)
        await hub.admit(ann)
        hub.leave(first)


async def test_of_many_that_were_admitted_at_once_no_more_come_in_than_may(live: Live) -> None:
    limited = live.app.state.settings.model_copy(update={"streams": 3, "streams_per_user": 2})
    hub = Hub(limited, live.sessions)
    ann, ben = (Principal(uuid4(), Role.CUSTOMER) for _ in range(2))
    async with hub.running(asyncio.Event().wait):
        await asyncio.gather(*(hub.admit(each) for each in (ann, ben) for _ in range(3)))
        joined = [hub.join(ann, Room()), hub.join(ann, Room())]
        with pytest.raises(TooManyError, match="you have 2 streams open"):
            hub.join(ann, Room())
        joined.append(hub.join(ben, Room()))
        with pytest.raises(BusyError, match="this process can"):
            hub.join(ben, Room())
        for each in joined:
            hub.leave(each)


async def test_a_hub_that_is_woken_while_it_ends_ends(live: Live) -> None:
    hub, admin = Hub(live.app.state.settings, live.sessions), Principal(uuid4(), Role.ADMIN)
    async with asyncio.timeout(PATIENCE), hub.running(asyncio.Event().wait):
        await hub.admit(admin)
        await asyncio.sleep(0.1)  # until it waits
        hub.leave(hub.join(admin, Room()))


async def test_a_stream_lasts_no_longer_than_an_access_token_would(live: Live) -> None:
    hub = Hub(live.app.state.settings, live.sessions)
    async with live.sessions() as session:
        user = principal_of(await make_user(session))
    async with hub.running(asyncio.Event().wait):
        old, young = hub.join(user, Room()), hub.join(user, Room())
        ended = asyncio.Event()
        old.wake_by(ended.set)
        old.joined -= 15 * 60
        async with asyncio.timeout(10):
            await ended.wait()
        assert old.end is TOO_OLD
        assert young.end is None
        hub.leave(old)
        hub.leave(young)
