"""The rules of the export of orders."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.access import Principal
from orders.core.exports import Exports, Sink
from orders.repositories import order_export


async def release(session: AsyncSession) -> None:
    """Give the connection of the request back: an export takes long, and has one of its own."""
    await session.commit()


async def write(exports: Exports, principal: Principal, sink: Sink) -> None:
    """Send to the sink, as CSV, all orders to an admin and their own to anybody else.

    Raises:
        TooManyError: the principal is sent one already.
        BusyError: all connections for exports are in use, or it took too long.
    """
    owner = None if principal.is_admin else principal.user_id
    await exports.copy(order_export.query(owner), principal.user_id, sink)
