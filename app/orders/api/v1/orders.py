"""``/api/v1/orders``."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from orders.api.deps import (
    CountsOnce,
    IfMatch,
    Lookups,
    OrdersReader,
    OrdersWriter,
    Payments,
    Session,
)
from orders.core.etags import etag
from orders.core.openapi import ETAG, LOCATION, headers, problems
from orders.models import Order
from orders.schemas.order import OrderCreate, OrderRead, OrderUpdate
from orders.schemas.order_list import OrderList, OrderPage
from orders.services import orders

router = APIRouter(prefix="/orders", tags=["orders"])


@router.get(
    "/{order_id}",
    response_model=OrderRead,
    responses=headers(200, ETag=ETAG) | problems(403, 404),
    summary="Read an order with its lines",
)
async def read_order(
    order_id: UUID, user: OrdersReader, lookups: Lookups, response: Response
) -> OrderRead:
    """Return the order at the prices of the moment it was placed."""
    order = await orders.get(lookups, user, order_id)
    response.headers["etag"] = etag(order.version)
    return order


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    response_model=OrderRead,
    responses=headers(201, ETag=ETAG, Location=LOCATION) | problems(403, 404, 409),
    summary="Place an order",
)
async def place_order(
    wanted: OrderCreate,
    user: OrdersWriter,
    session: Session,
    provider: Payments,
    once: CountsOnce,
    request: Request,
    response: Response,
) -> OrderRead:
    """Take all lines from the stock at the catalogue's prices, or none.

    With a `payment_method_id` the order is paid for at once, and comes back `confirmed`,
    `payment_failed`, or, if the payment provider has not given a sure answer within some seconds,
    `payment_pending`: then it is asked on until it has. Without one the order is `pending`.

    With an `Idempotency-Key` it can be sent again without a second order: the answer is the first
    one's, also while that is still under way; with another body it is refused (422). Only what was
    placed is kept, for a day: after an error the same key may be tried again.
    """
    order = await orders.place(session, provider, user, wanted, once)
    response.headers["location"] = f"{request.url.path}/{order.id}"
    response.headers["etag"] = etag(order.version)
    return order


@router.get("", response_model=OrderPage, responses=problems(403), summary="List your orders")
async def list_orders(
    wanted: Annotated[OrderList, Query()], user: OrdersReader, session: Session
) -> OrderPage:
    """Return one page with lines: yours, or, to an admin, everybody's."""
    return await orders.list_page(session, user, wanted)


@router.patch(
    "/{order_id}",
    response_model=OrderRead,
    responses=headers(200, ETag=ETAG) | problems(403, 404, 409, 412, 428),
    summary="Confirm, cancel, ship or deliver an order",
)
async def update_order(
    order_id: UUID,
    wanted: OrderUpdate,
    user: OrdersWriter,
    session: Session,
    provider: Payments,
    if_match: IfMatch,
    response: Response,
) -> Order:
    """Bring the order into another state. What a cancelled order held is for sale again.

    Customers confirm by paying, where a payment provider is set up.
    """
    order = await orders.move(session, provider, user, order_id, wanted.status, if_match)
    response.headers["etag"] = etag(order.version)
    return order
