"""The one way by which an order changes: checked, made once, and told.

Nobody else writes an order's status. Each function is part of the caller's transaction block.
"""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.errors import ConflictError
from orders.core.order_states import Actor, OrderStatus, require_transition
from orders.models import Order
from orders.repositories import orders, products
from orders.services import events
from orders.services.events import EventKind


async def add(session: AsyncSession, order: Order) -> None:
    """Store a new order with its lines; its id, status, version and time come back with it."""
    await orders.add(session, order)
    await events.record(session, order, EventKind.PLACED)


async def advance(session: AsyncSession, order: Order, to: OrderStatus, actor: Actor) -> None:
    """Bring an order into another state; what a cancelled one held goes back into the stock.

    Of two who want to move it from the same state one does. The order carries its lines where it
    is to be cancelled.

    Raises:
        ConflictError: it cannot come into that state, or somebody was faster.
        ForbiddenError: it could, but not by this actor.
    """
    require_transition(OrderStatus(order.status), to, actor)
    if not await orders.move(session, order, to):
        raise ConflictError("the order was changed at this moment; look at it again")
    if to is OrderStatus.CANCELLED:
        held = {line.product_id: line.quantity for line in order.lines}
        await products.add_to_stock(session, held)
    await events.record(session, order, EventKind.MOVED)
