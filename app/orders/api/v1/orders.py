"""``/api/v1/orders``."""

from __future__ import annotations

from http import HTTPStatus
from uuid import UUID

from fastapi import APIRouter

from orders.api.deps import Session
from orders.core.errors import Problem
from orders.models import Order
from orders.schemas.order import OrderCreate, OrderRead
from orders.services import orders

router = APIRouter(prefix="/orders", tags=["orders"])


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    response_model=OrderRead,
    responses={
        404: {"model": Problem, "description": "A product is not in the catalogue."},
        409: {"model": Problem, "description": "A product has not enough in stock."},
    },
    summary="Place an order",
)
async def place_order(wanted: OrderCreate, session: Session) -> Order:
    """Prices come from the catalogue; all lines are taken from the stock, or none."""
    return await orders.place(session, wanted)


@router.get(
    "/{order_id}",
    response_model=OrderRead,
    responses={404: {"model": Problem, "description": "There is no such order."}},
    summary="Read an order with its lines",
)
async def read_order(order_id: UUID, session: Session) -> Order:
    """Return the order at the prices of the moment it was placed."""
    return await orders.get(session, order_id)
