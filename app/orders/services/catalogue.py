"""Reading the catalogue: by those who sign in, and by the many who do not.

A stranger has written nothing. So what a stranger sees may be some seconds old: it comes from the
cache, and into the cache from the replica. Who has shown credentials may have written just now, and
reads the primary itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.cache import Cache
from orders.core.database import Sessions
from orders.core.replica import Replica
from orders.repositories.products import TOPIC
from orders.schemas.product import ProductRead
from orders.services import products

_PAGE: Final = TypeAdapter(list[ProductRead])


@dataclass(frozen=True, slots=True)
class ShopWindow:
    """The catalogue as strangers see it."""

    primary: Sessions
    replica: Replica
    cache: Cache | None

    async def list_page(self, *, limit: int, offset: int) -> Sequence[ProductRead]:
        """Show a page of the catalogue, by SKU."""

        async def read(session: AsyncSession) -> bytes:
            found = await products.list_page(session, limit=limit, offset=offset)
            return _PAGE.dump_json([ProductRead.model_validate(each) for each in found])

        return _PAGE.validate_json(await self._show(f"page:{limit}:{offset}", read))

    async def get(self, product_id: UUID) -> ProductRead:
        """Show a product.

        Raises:
            NotFoundError: there is none of that id.
        """

        async def read(session: AsyncSession) -> bytes:
            found = await products.get(session, product_id)
            return ProductRead.model_validate(found).model_dump_json().encode()

        return ProductRead.model_validate_json(await self._show(f"one:{product_id}", read))

    async def _show(self, key: str, read: Callable[[AsyncSession], Awaitable[bytes]]) -> bytes:
        async def load() -> bytes:
            return await self.replica.read(self.primary, read)

        return await (self.cache.get(TOPIC, key, load) if self.cache else load())


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The catalogue, for one request."""

    session: AsyncSession
    window: ShopWindow | None
    """Of strangers; ``None`` for who has signed in."""

    async def list_page(self, *, limit: int, offset: int) -> Sequence[ProductRead]:
        """Read a page of the catalogue, by SKU."""
        if self.window:
            return await self.window.list_page(limit=limit, offset=offset)
        found = await products.list_page(self.session, limit=limit, offset=offset)
        return [ProductRead.model_validate(each) for each in found]

    async def get(self, product_id: UUID) -> ProductRead:
        """Read a product.

        Raises:
            NotFoundError: there is none of that id.
        """
        if self.window:
            return await self.window.get(product_id)
        return ProductRead.model_validate(await products.get(self.session, product_id))
