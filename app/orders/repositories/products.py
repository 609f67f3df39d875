"""SQL for products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import ARRAY, Integer, Uuid, bindparam, cast, column, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.dml import ReturningUpdate

from orders.core.database import note_change
from orders.models import Product

TOPIC: Final = "products"
"""What caches know the catalogue by."""


def _add_to_stock() -> ReturningUpdate[UUID, int]:
    wanted = (
        func.unnest(
            cast(bindparam("ids", type_=ARRAY(Uuid)), ARRAY(Uuid)),
            cast(bindparam("changes", type_=ARRAY(Integer)), ARRAY(Integer)),
        )
        .table_valued(column("id", Uuid), column("change", Integer), name="wanted")
        .render_derived()
    )
    locked = (
        select(Product.id, wanted.c.change)
        .join(wanted, wanted.c.id == Product.id)
        .order_by(Product.id)
        .with_for_update(of=Product, key_share=True)
        .cte("locked")
    )
    return (
        update(Product)
        .where(Product.id == locked.c.id, Product.stock + locked.c.change >= 0)
        .values(stock=Product.stock + locked.c.change, version=Product.version + 1)
        .returning(Product.id, Product.price_cents)
        .execution_options(synchronize_session=False)
    )


_ADD_TO_STOCK: Final = _add_to_stock()
"""Made once: to put it together takes longer than the database takes for it."""


async def add(session: AsyncSession, product: Product) -> None:
    """Insert a product; its id, version and time come back with it."""
    note_change(session, TOPIC)
    session.add(product)
    await session.flush()


async def list_by_sku(session: AsyncSession, *, limit: int, offset: int) -> Sequence[Product]:
    """Read a page of the catalogue."""
    query = select(Product).order_by(Product.sku).limit(limit).offset(offset)
    return (await session.scalars(query)).all()


async def get(session: AsyncSession, product_id: UUID) -> Product | None:
    """Read one product."""
    return await session.get(Product, product_id)


async def lock(session: AsyncSession, product_id: UUID) -> Product | None:
    """Read one product to change it: nobody else can until the transaction ends."""
    note_change(session, TOPIC)
    query = select(Product).where(Product.id == product_id).with_for_update(key_share=True)
    return (await session.scalars(query)).one_or_none()


async def remove(session: AsyncSession, product_id: UUID) -> bool:
    """Delete one product; return whether there was one."""
    note_change(session, TOPIC)
    query = delete(Product).where(Product.id == product_id).returning(Product.id)
    return (await session.scalars(query)).one_or_none() is not None


async def add_to_stock(session: AsyncSession, changes: Mapping[UUID, int]) -> dict[UUID, int]:
    """Add to the stock of each product, or take from it where the number is negative.

    Returns the price in cents of each product that was changed. One that is not in the catalogue,
    or has less than is to be taken, is left out: the caller then ends the transaction.

    One statement, however many products: the last piece cannot be taken twice. Rows are locked in
    the order of their ids, for everybody the same, so that no two transactions wait for each other.
    """
    note_change(session, TOPIC)
    values = {"ids": list(changes), "changes": list(changes.values())}
    rows = await session.execute(_ADD_TO_STOCK, values)
    return {row.id: row.price_cents for row in rows}


async def stock_of(
    session: AsyncSession, product_ids: Sequence[UUID]
) -> dict[UUID, tuple[str, int]]:
    """Read SKU and stock of those products that are in the catalogue."""
    query = select(Product.id, Product.sku, Product.stock).where(Product.id.in_(product_ids))
    return {row.id: (row.sku, row.stock) for row in await session.execute(query)}
