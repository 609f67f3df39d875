"""The list of orders: filtered, sorted, by offset and by cursor, in few statements."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, event
from sqlalchemy.ext.asyncio import AsyncSession

from orders.models import Order, Product, User
from orders.schemas.order_list import Cursor, OrderSort
from tests.orders.conftest import Live, SignIn
from tests.orders.factories import make_order, make_product, make_user

ORDERS = "/api/v1/orders"
SORTS: list[OrderSort] = ["created_at", "-created_at", "total_cents", "-total_cents"]
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def ann(session: AsyncSession, sign_in: SignIn) -> User:
    user = await make_user(session)
    sign_in(user)
    return user


@pytest.fixture
async def tea(session: AsyncSession) -> Product:
    return await make_product(session)


async def listed(client: httpx.AsyncClient, **query: Any) -> dict[str, Any]:  # noqa: ANN401
    answer = await client.get(ORDERS, params=query)
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


async def walked(client: httpx.AsyncClient, **query: Any) -> list[str]:  # noqa: ANN401
    """The ids of all pages, by cursor."""
    seen: list[str] = []
    page = await listed(client, **query)
    while True:
        seen += [each["id"] for each in page["items"]]
        assert len(set(seen)) == len(seen)
        if page["next_cursor"] is None:
            return seen
        page = await listed(client, cursor=page["next_cursor"], **query)
        assert page["total"] is None


async def make_orders(session: AsyncSession, user: User, tea: Product) -> list[Order]:
    """Twelve of them, with times and totals that come twice."""
    return [
        await make_order(
            session,
            user,
            tea,
            total_cents=n % 3,
            created_at=NEW_YEAR + timedelta(microseconds=n // 2),
            status="confirmed" if n % 4 == 0 else "pending",
        )
        for n in range(12)
    ]


@pytest.mark.parametrize("sort", SORTS)
async def test_pages_by_offset_and_by_cursor_are_the_same_list(
    client: httpx.AsyncClient, session: AsyncSession, ann: User, tea: Product, sort: OrderSort
) -> None:
    orders = await make_orders(session, ann, tea)
    key = sort.removeprefix("-")
    expected = [
        str(order.id)
        for order in sorted(
            orders,
            key=lambda order: (getattr(order, key), order.id),
            reverse=sort.startswith("-"),
        )
    ]
    by_offset = [
        each["id"]
        for offset in range(0, 15, 5)
        for each in (await listed(client, sort=sort, limit=5, offset=offset))["items"]
    ]
    assert by_offset == expected
    for limit in (1, 5, 12, 100):
        assert await walked(client, sort=sort, limit=limit) == expected


async def test_the_newest_come_first_with_their_lines_and_how_many_there_are(
    client: httpx.AsyncClient, session: AsyncSession, ann: User, tea: Product
) -> None:
    orders = await make_orders(session, ann, tea)
    page = await listed(client, limit=2)
    assert {each["id"] for each in page["items"]} == {str(each.id) for each in orders[-2:]}
    assert page["total"] == 12
    assert all(len(each["lines"]) == 1 for each in page["items"])
    beyond = await listed(client, offset=50)
    assert (beyond["items"], beyond["total"], beyond["next_cursor"]) == ([], 12, None)


async def test_a_filter_by_status_holds_on_every_page(
    client: httpx.AsyncClient, session: AsyncSession, ann: User, tea: Product
) -> None:
    orders = await make_orders(session, ann, tea)
    confirmed = {str(order.id) for order in orders if order.status == "confirmed"}
    assert (await listed(client, status="confirmed"))["total"] == len(confirmed) == 3
    assert {*await walked(client, status="confirmed", limit=1)} == confirmed
    assert (await listed(client, status="shipped"))["total"] == 0


async def test_nothing_comes_twice_or_is_left_out_while_orders_come_in(
    client: httpx.AsyncClient, session: AsyncSession, ann: User, tea: Product
) -> None:
    before = {str(order.id) for order in await make_orders(session, ann, tea)}
    page = await listed(client, limit=5)
    await make_order(session, ann, tea)
    first = [each["id"] for each in page["items"]]
    rest = await walked(client, cursor=page["next_cursor"])
    assert sorted(first + rest) == sorted(before)


async def test_a_cursor_of_another_user_shows_nothing_of_theirs(
    client: httpx.AsyncClient, session: AsyncSession, sign_in: SignIn, ann: User, tea: Product
) -> None:
    await make_orders(session, ann, tea)
    cursor = (await listed(client, limit=1))["next_cursor"]
    sign_in(await make_user(session))
    assert (await listed(client, cursor=cursor))["items"] == []


async def test_a_hundred_orders_with_lines_take_three_statements_at_most(live: Live) -> None:
    async with live.sessions() as session:
        ann = await make_user(session)
        products = [await make_product(session) for _ in range(3)]
        for _ in range(101):
            await make_order(session, ann, *products)
    token = live.app.state.tokens.issue(ann.id, ann.role, ann.token_version)
    live.client.headers["authorization"] = f"Bearer {token}"
    with counted(live.sessions.kw["bind"].sync_engine) as statements:
        page = await listed(live.client, limit=100)
    assert (len(page["items"]), page["total"]) == (100, 101)
    assert all(len(each["lines"]) == 3 for each in page["items"])
    # Who asks is one more, which SQLAlchemy does not see.
    assert len(statements) <= 2, statements
    with counted(live.sessions.kw["bind"].sync_engine) as statements:
        await listed(live.client, limit=100, cursor=page["next_cursor"])
    assert len(statements) <= 2, statements


@contextmanager
def counted(engine: Engine) -> Iterator[list[str]]:
    """The statements that an engine sends meanwhile."""
    statements: list[str] = []

    def note(*arguments: Any) -> None:  # noqa: ANN401 - SQLAlchemy's
        statements.append(arguments[2])

    event.listen(engine, "before_cursor_execute", note)
    yield statements
    event.remove(engine, "before_cursor_execute", note)


def encoded(text: str) -> str:
    return urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "query.limit"),
        ("limit=101", "query.limit"),
        ("offset=-1", "query.offset"),
        (f"offset={10**30}", "query.offset"),
        ("sort=id", "query.sort"),
        ("status=paid", "query.status"),
        ("status=%00", "query.status"),
        ("cursor=", "query.cursor"),
        ("cursor=%00", "query.cursor"),
        ("cursor=é", "query.cursor"),
        ("cursor=" + "A" * 301, "query.cursor"),
        ("cursor=" + encoded("[" * 200), "query.cursor"),
        ("cursor=" + encoded('{"sort": "id", "position": 1, "id": "x"}'), "query.cursor"),
        (f"cursor={Cursor(sort='created_at', position=1, id=UUID(int=1))}", "query"),
        (f"offset=1&cursor={Cursor(sort='-created_at', position=1, id=UUID(int=1))}", "query"),
    ],
)
async def test_a_malformed_list_is_refused_by_parameter(
    client: httpx.AsyncClient, ann: User, query: str, field: str
) -> None:
    refused = await client.get(f"{ORDERS}?{query}")
    assert refused.status_code == 422
    (error,) = refused.json()["errors"]
    assert error["field"] == field
    assert "\n" not in error["reason"]


@given(st.sampled_from(SORTS), st.integers(0, 250_000_000_000_000_000), st.uuids())
def test_a_cursor_reads_back_and_fits_into_a_url(sort: OrderSort, position: int, at: UUID) -> None:
    cursor = Cursor(sort=sort, position=position, id=at)
    assert Cursor.parse(str(cursor)) == cursor
    assert len(str(cursor)) <= 300
    assert str(cursor).replace("-", "").replace("_", "").isalnum()


@given(
    st.text(max_size=400) | st.binary(max_size=200).map(lambda raw: urlsafe_b64encode(raw).decode())
)
def test_whatever_else_is_sent_is_no_cursor(sent: str) -> None:
    with pytest.raises(ValueError, match="it is no cursor of this list"):
        Cursor.parse(sent)


@pytest.mark.parametrize("position", [0, 250_000_000_000_000_000])
@pytest.mark.parametrize("sort", SORTS)
async def test_the_ends_of_what_a_cursor_can_say_are_places_like_others(
    client: httpx.AsyncClient,
    session: AsyncSession,
    ann: User,
    tea: Product,
    sort: OrderSort,
    position: int,
) -> None:
    await make_order(session, ann, tea)
    cursor = Cursor(sort=sort, position=position, id=uuid4())
    found = await listed(client, sort=sort, cursor=str(cursor))
    assert len(found["items"]) == ((position == 0) != sort.startswith("-"))
