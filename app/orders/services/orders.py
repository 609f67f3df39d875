"""The rules of ordering."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.access import Principal
from orders.core.database import transaction
from orders.core.errors import ConflictError, NotFoundError
from orders.core.etags import require_match
from orders.core.order_states import Actor, OrderStatus, require_transition
from orders.models import Order, OrderLine
from orders.repositories import orders, products
from orders.schemas.order import OrderCreate, OrderRead
from orders.schemas.order_list import OrderList, OrderPage
from orders.services.idempotency import Once, answer_once


async def place(
    session: AsyncSession, principal: Principal, wanted: OrderCreate, once: Once | None
) -> OrderRead:
    """Take the lines from the stock and store the order, or do neither.

    Raises:
        NotFoundError: a product is not in the catalogue.
        ConflictError: a product has not enough in stock.
        UnprocessableError: another order was placed with this idempotency key.
    """

    async def work() -> OrderRead:
        return OrderRead.model_validate(await _place(session, principal, wanted))

    async with transaction(session):
        if once is None:
            return await work()
        return await answer_once(session, once, wanted, OrderRead, work)


async def get(session: AsyncSession, principal: Principal, order_id: UUID) -> Order:
    """Read an order.

    Raises:
        NotFoundError: there is none of that id that is the principal's to see.
    """
    return _visible(await orders.get(session, order_id), principal, order_id)


async def list_page(session: AsyncSession, principal: Principal, wanted: OrderList) -> OrderPage:
    """Read a page of the principal's orders; of all orders, if they are an admin."""
    owner = None if principal.is_admin else principal.user_id
    limit = wanted.limit + 1  # one more tells whether there is a next page
    total = None
    if wanted.cursor:
        found = await orders.list_after(
            session, wanted.cursor, owner=owner, status=wanted.status, limit=limit
        )
    else:
        found, total = await orders.list_page(
            session,
            owner=owner,
            status=wanted.status,
            sort=wanted.sort,
            limit=limit,
            offset=wanted.offset,
        )
    items = found[: wanted.limit]
    more = len(found) > len(items)
    return OrderPage(
        items=[OrderRead.model_validate(order) for order in items],
        total=total,
        next_cursor=str(orders.cursor_at(items[-1], wanted.sort)) if more else None,
    )


async def move(
    session: AsyncSession,
    principal: Principal,
    order_id: UUID,
    wanted: OrderStatus,
    if_match: str,
) -> Order:
    """Bring an order into another state; what a cancelled one held goes back into the stock.

    Raises:
        NotFoundError: there is none of that id that is the principal's to change.
        PreconditionFailedError: it has changed since the principal saw it.
        ConflictError: it cannot come into that state from the one of now.
        ForbiddenError: it could, but not by the principal.
    """
    actor = Actor.SHOP if principal.is_admin else Actor.CUSTOMER
    async with transaction(session):
        order = _visible(await orders.lock(session, order_id), principal, order_id)
        require_match(if_match, order.version)
        require_transition(OrderStatus(order.status), wanted, actor)
        order.status = wanted
        order.version += 1
        if wanted is OrderStatus.CANCELLED:
            await products.add_to_stock(
                session, {line.product_id: line.quantity for line in order.lines}
            )
    return order


async def _place(session: AsyncSession, principal: Principal, wanted: OrderCreate) -> Order:
    quantities = {line.product_id: line.quantity for line in wanted.lines}
    prices = await products.add_to_stock(session, {each: -n for each, n in quantities.items()})
    short = [product_id for product_id in quantities if product_id not in prices]
    if short:
        await _refuse(session, short)
    order = Order(
        user_id=principal.user_id,
        total_cents=sum(quantities[each] * price for each, price in prices.items()),
        lines=[
            OrderLine(product_id=each, quantity=quantities[each], unit_price_cents=prices[each])
            for each in sorted(prices)
        ],
    )
    await orders.add(session, order)
    return order


async def _refuse(session: AsyncSession, short: list[UUID]) -> None:
    stock = await products.stock_of(session, short)
    for product_id in short:
        if product_id not in stock:
            raise NotFoundError(f"there is no product {product_id}")
    sku, left = stock[short[0]]
    raise ConflictError(f"only {left} left of product {sku}")


def _visible(order: Order | None, principal: Principal, order_id: UUID) -> Order:
    # Not 403 for the orders of others: whether there is one is theirs to know as well.
    if order is None or not (
        principal.is_admin or (order.user_id and principal.may_act_for(order.user_id))
    ):
        raise NotFoundError(f"there is no order {order_id}")
    return order
