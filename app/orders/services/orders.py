"""The rules of ordering."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TypeVar
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.access import Principal
from orders.core.database import transaction
from orders.core.errors import ConflictError, ForbiddenError, NotFoundError, UnprocessableError
from orders.core.etags import require_match
from orders.core.order_states import Actor, OrderStatus
from orders.models import Order, OrderLine, Payment
from orders.outbound.payment_provider import PaymentProvider
from orders.repositories import orders, products
from orders.repositories import payments as payment_rows
from orders.repositories.lookups import Lookups
from orders.schemas.order import OrderCreate, OrderRead
from orders.schemas.order_list import OrderList, OrderPage
from orders.services import payments
from orders.services.idempotency import Once, Told, answer_once, conclude
from orders.services.order_changes import add, advance

log = logging.getLogger(__name__)

Seen = TypeVar("Seen", Order, OrderRead)


async def place(
    session: AsyncSession,
    provider: PaymentProvider | None,
    principal: Principal,
    wanted: OrderCreate,
    once: Once | None,
) -> OrderRead:
    """Take the lines from the stock and store the order, or do neither; then ask for the money.

    Raises:
        NotFoundError: a product is not in the catalogue.
        ConflictError: a product has not enough in stock.
        UnprocessableError: another order was placed with this idempotency key, or nobody can be
            asked for the money.
    """
    if wanted.payment_method_id:
        _require(provider)

    async def work() -> Told[OrderRead]:
        order = await _place(session, principal, wanted)
        if wanted.payment_method_id:
            await payments.begin(session, order, wanted.payment_method_id)
        return Told(OrderRead.model_validate(order), is_final=not wanted.payment_method_id)

    async with transaction(session):
        told = await answer_once(session, once, wanted, OrderRead, work)
    if told.is_final:
        return told.answer
    try:
        return await _pay(session, provider, told.answer.id, once)
    except (SQLAlchemyError, OSError) as error:
        if once:
            raise  # sent again, it goes on from here
        # The order is placed: an error would make its customer place another one.
        log.warning("a payment is left to the queue (%s)", type(error).__name__)
        return told.answer


async def get(lookups: Lookups, principal: Principal, order_id: UUID) -> OrderRead:
    """Read an order.

    Raises:
        NotFoundError: there is none of that id that is the principal's to see.
    """
    return _visible(await lookups.order.find(order_id), principal, order_id)


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


async def pay(
    session: AsyncSession,
    provider: PaymentProvider | None,
    principal: Principal,
    order_id: UUID,
    payment_method_id: str,
) -> Payment:
    """Pay for an order that was placed without, or whose last payment was declined.

    Raises:
        NotFoundError: there is none of that id that is the principal's to see.
        ConflictError: it is not one to pay for now.
        UnprocessableError: nobody can be asked for the money.
    """
    _require(provider)
    async with transaction(session):
        order = _visible(await orders.get(session, order_id), principal, order_id)
        payment = await payments.begin(session, order, payment_method_id)
    await payments.authorise(session, provider, payment.id)
    async with transaction(session):
        await session.refresh(payment)
    return payment


async def list_payments(
    session: AsyncSession, principal: Principal, order_id: UUID
) -> Sequence[Payment]:
    """Read the payments of an order, the latest first.

    Raises:
        NotFoundError: there is none of that id that is the principal's to see.
    """
    _visible(await orders.get(session, order_id), principal, order_id)
    return await payment_rows.of_order(session, order_id)


async def move(
    session: AsyncSession,
    provider: PaymentProvider | None,
    principal: Principal,
    order_id: UUID,
    wanted: OrderStatus,
    if_match: str,
) -> Order:
    """Bring an order into another state; what a cancelled one held goes back into the stock.

    What was authorised for it is given back by the queue. Where a payment provider is set up,
    customers confirm their orders by paying.

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
        if provider and actor is Actor.CUSTOMER and wanted is OrderStatus.CONFIRMED:
            raise ForbiddenError("an order is confirmed by its payment: POST to its /payments")
        await advance(session, order, wanted, actor)
        if wanted is OrderStatus.CANCELLED:
            await payments.give_back(session, order)
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
    await add(session, order)
    return order


async def _pay(
    session: AsyncSession, provider: PaymentProvider | None, order_id: UUID, once: Once | None
) -> OrderRead:
    async with transaction(session):
        payment, *_ = await payment_rows.of_order(session, order_id)
    await payments.authorise(session, provider, payment.id)
    async with transaction(session):
        order = await orders.get(session, order_id)
        return await conclude(session, once, OrderRead.model_validate(order))


def _require(provider: PaymentProvider | None) -> None:
    if provider is None:
        raise UnprocessableError(
            "body.payment_method_id",
            "no payment provider is set up here (APP_PAYMENTS_URL), so nothing can be paid for",
            "no_payment_provider",
        )


async def _refuse(session: AsyncSession, short: list[UUID]) -> None:
    stock = await products.stock_of(session, short)
    for product_id in short:
        if product_id not in stock:
            raise NotFoundError(f"there is no product {product_id}")
    sku, left = stock[short[0]]
    raise ConflictError(f"only {left} left of product {sku}")


def _visible(order: Seen | None, principal: Principal, order_id: UUID) -> Seen:
    # Not 403 for the orders of others: whether there is one is theirs to know as well.
    if order is None or not (
        principal.is_admin or (order.user_id and principal.may_act_for(order.user_id))
    ):
        raise NotFoundError(f"there is no order {order_id}")
    return order
