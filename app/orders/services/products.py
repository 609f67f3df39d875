"""The catalogue's rules."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.errors import ConflictError
from orders.models import Product
from orders.repositories import products
from orders.schemas.product import ProductCreate


async def create(session: AsyncSession, wanted: ProductCreate) -> Product:
    """Put a product into the catalogue.

    Raises:
        ConflictError: the catalogue has that SKU.
    """
    product = Product(**wanted.model_dump())
    try:
        async with session.begin():
            await products.add(session, product)
    except IntegrityError:
        raise ConflictError(f"the catalogue already has sku {wanted.sku}") from None
    return product


async def list_page(session: AsyncSession, *, limit: int, offset: int) -> Sequence[Product]:
    """Read a page of the catalogue, by SKU."""
    return await products.list_by_sku(session, limit=limit, offset=offset)
