"""The rules of ordering."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.errors import ConflictError, NotFoundError
from orders.models import Order, OrderLine
from orders.repositories import orders, products
from orders.schemas.order import OrderCreate


async def place(session: AsyncSession, wanted: OrderCreate) -> Order:
    """Take the lines from the stock and store the order, or do neither.

    Raises:
        NotFoundError: a product is not in the catalogue.
        ConflictError: a product has not enough in stock.
    """
    async with session.begin():
        lines: list[OrderLine] = []
        # In one order for everybody, so that two orders of the same products cannot deadlock.
        for line in sorted(wanted.lines, key=lambda line: line.product_id):
            price = await products.take(session, line.product_id, line.quantity)
            if price is None:
                await _explain_shortage(session, line.product_id)
            else:
                lines.append(
                    OrderLine(
                        product_id=line.product_id, quantity=line.quantity, unit_price_cents=price
                    )
                )
        total = sum(line.quantity * line.unit_price_cents for line in lines)
        order = Order(total_cents=total, lines=lines)
        await orders.add(session, order)
    return order


async def get(session: AsyncSession, order_id: UUID) -> Order:
    """Read an order.

    Raises:
        NotFoundError: there is none of that id.
    """
    order = await orders.get(session, order_id)
    if order is None:
        raise NotFoundError(f"there is no order {order_id}")
    return order


async def _explain_shortage(session: AsyncSession, product_id: UUID) -> None:
    product = await products.get(session, product_id)
    if product is None:
        raise NotFoundError(f"there is no product {product_id}")
    raise ConflictError(f"only {product.stock} left of product {product.sku}")
