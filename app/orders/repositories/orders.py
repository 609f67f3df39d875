"""SQL for orders."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Select, bindparam, func, literal, select, text, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute, joinedload, selectinload
from sqlalchemy.orm.attributes import set_committed_value

from orders.core.order_states import OrderStatus
from orders.core.rows import Rows
from orders.models import Order
from orders.schemas.order import OrderRead
from orders.schemas.order_list import Cursor, OrderSort

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

# Made once: to put it together takes as long as the database takes to answer it.
_WITH_LINES: Final = (
    select(Order)
    .where(Order.id == bindparam("order_id"))
    .options(joinedload(Order.lines))
    .execution_options(populate_existing=True)
)

_ADD: Final = text("""
    WITH added AS (
        INSERT INTO orders (user_id, total_cents) VALUES (:user_id, :total_cents)
        RETURNING id, status, version, created_at
    ), lines AS (
        INSERT INTO order_lines (order_id, product_id, quantity, unit_price_cents)
        SELECT added.id, line.* FROM added, unnest(
            CAST(:products AS uuid[]), CAST(:quantities AS integer[]), CAST(:prices AS bigint[])
        ) AS line
    )
    SELECT id, status, version, created_at FROM added
""")
_LOOK_UP: Final = """
    SELECT id, user_id, status, total_cents, version, created_at,
        product_id, quantity, unit_price_cents
    FROM orders LEFT JOIN order_lines ON order_id = id WHERE id = ANY($1) ORDER BY product_id
"""


async def add(session: AsyncSession, order: Order) -> None:
    """Insert an order with its lines; its id, status, version and time come back with it.

    One statement for all of them. The session does not come to know the objects: to keep track of
    them takes it longer than the database takes to store them.
    """
    values = {
        "user_id": order.user_id,
        "total_cents": order.total_cents,
        "products": [line.product_id for line in order.lines],
        "quantities": [line.quantity for line in order.lines],
        "prices": [line.unit_price_cents for line in order.lines],
    }
    row = (await session.execute(_ADD, values)).one()
    order.id, order.status, order.version, order.created_at = row


async def get(session: AsyncSession, order_id: UUID) -> Order | None:
    """Read one order with its lines, as it is stored now."""
    found = await session.scalars(_WITH_LINES, {"order_id": order_id})
    return found.unique().one_or_none()


async def look_up(rows: Rows, order_ids: Collection[UUID]) -> dict[UUID, OrderRead]:
    """Read orders with their lines, as clients see them."""
    found: dict[UUID, dict[str, Any]] = {}
    for row in await rows.read(_LOOK_UP, order_ids):
        order = found.setdefault(row["id"], {**row, "lines": []})
        if row["product_id"]:
            order["lines"].append(dict(row))
    return {order_id: OrderRead.model_validate(order) for order_id, order in found.items()}


async def lock(session: AsyncSession, order_id: UUID) -> Order | None:
    """Read one order with its lines, and let nobody else change it until the transaction ends."""
    # Lines by a statement of their own: an outer join could not be locked.
    order = select(Order).where(Order.id == order_id).options(selectinload(Order.lines))
    return (await session.scalars(order.with_for_update(key_share=True))).one_or_none()


async def move(session: AsyncSession, order: Order, to: OrderStatus) -> bool:
    """Bring an order into another state if it is still in the one it was read in; tell whether."""
    query = (
        update(Order)
        .where(Order.id == order.id, Order.status == order.status)
        .values(status=to, version=Order.version + 1)
        .returning(Order.version)
        .execution_options(synchronize_session=False)
    )
    version = await session.scalar(query)
    if version is None:
        return False
    set_committed_value(order, "status", to)
    set_committed_value(order, "version", version)
    return True


async def list_page(
    session: AsyncSession,
    *,
    owner: UUID | None,
    status: OrderStatus | None,
    sort: OrderSort,
    limit: int,
    offset: int,
) -> tuple[Sequence[Order], int]:
    """Read a page of the orders with their lines, and count all that match: two statements."""
    matching = _matching(owner, status)
    total = select(func.count()).select_from(matching.subquery()).scalar_subquery()
    page = matching.add_columns(total).order_by(*_order(sort)).limit(limit).offset(offset)
    rows = (await session.execute(page)).all()
    if rows:
        return [row[0] for row in rows], rows[0][1]
    return [], await session.scalar(select(total)) or 0


async def list_after(
    session: AsyncSession,
    cursor: Cursor,
    *,
    owner: UUID | None,
    status: OrderStatus | None,
    limit: int,
) -> Sequence[Order]:
    """Read the orders behind a place, with their lines, however far down the list it is."""
    key = _key(cursor.sort)
    value: datetime | int = cursor.position
    if key is Order.created_at:
        value = _EPOCH + cursor.position * _MICROSECOND
    here = tuple_(key, Order.id)
    place = tuple_(literal(value, key.type), literal(cursor.id, Order.id.type))
    behind = here < place if cursor.sort.startswith("-") else here > place
    page = _matching(owner, status).where(behind).order_by(*_order(cursor.sort)).limit(limit)
    return (await session.scalars(page)).all()


def cursor_at(order: Order, sort: OrderSort) -> Cursor:
    """Return the place of an order in the list."""
    position = (
        (order.created_at - _EPOCH) // _MICROSECOND
        if _key(sort) is Order.created_at
        else order.total_cents
    )
    return Cursor(sort=sort, position=position, id=order.id)


def _matching(owner: UUID | None, status: OrderStatus | None) -> Select[Order]:
    query = select(Order).options(selectinload(Order.lines))
    if owner is not None:
        query = query.where(Order.user_id == owner)
    if status is not None:
        query = query.where(Order.status == status)
    return query


def _key(sort: OrderSort) -> InstrumentedAttribute[Any]:
    return Order.total_cents if sort.endswith("total_cents") else Order.created_at


def _order(sort: OrderSort) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    # The id last, or equal keys would come in any order and on two pages.
    if sort.startswith("-"):
        return _key(sort).desc(), Order.id.desc()
    return _key(sort).asc(), Order.id.asc()
