"""The catalogue's rules."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.database import transaction
from orders.core.errors import NotFoundError
from orders.core.etags import require_match
from orders.models import Product
from orders.repositories import products
from orders.schemas.product import ProductCreate, ProductUpdate


async def create(session: AsyncSession, wanted: ProductCreate) -> Product:
    """Put a product into the catalogue; a SKU that is taken is refused by the database (409)."""
    product = Product(**wanted.model_dump())
    async with transaction(session):
        await products.add(session, product)
    return product


async def list_page(session: AsyncSession, *, limit: int, offset: int) -> Sequence[Product]:
    """Read a page of the catalogue, by SKU."""
    return await products.list_by_sku(session, limit=limit, offset=offset)


async def get(session: AsyncSession, product_id: UUID) -> Product:
    """Read a product.

    Raises:
        NotFoundError: there is none of that id.
    """
    return _found(await products.get(session, product_id), product_id)


async def update(
    session: AsyncSession, product_id: UUID, wanted: ProductUpdate, if_match: str
) -> Product:
    """Change what is named; orders that were placed keep their prices.

    Raises:
        NotFoundError: there is none of that id.
        PreconditionFailedError: it has changed since, for example by an order that took from it.
    """
    async with transaction(session):
        product = _found(await products.lock(session, product_id), product_id)
        require_match(if_match, product.version)
        for name, value in wanted.model_dump(exclude_none=True).items():
            setattr(product, name, value)
        if session.is_modified(product):
            product.version += 1
    return product


async def delete(session: AsyncSession, product_id: UUID) -> None:
    """Take a product from the catalogue; one that orders name is kept by the database (409).

    Raises:
        NotFoundError: there is none of that id.
    """
    async with transaction(session):
        if not await products.remove(session, product_id):
            raise NotFoundError(f"there is no product {product_id}")


def _found(product: Product | None, product_id: UUID) -> Product:
    if product is None:
        raise NotFoundError(f"there is no product {product_id}")
    return product
