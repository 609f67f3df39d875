"""``/api/v1/orders/{order_id}/payments``."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from uuid import UUID

from fastapi import APIRouter

from orders.api.deps import OrdersReader, OrdersWriter, Payments, Session
from orders.core.openapi import problems
from orders.models import Payment
from orders.schemas.payment import PaymentCreate, PaymentRead
from orders.services import orders

router = APIRouter(prefix="/orders/{order_id}/payments", tags=["orders"])


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    response_model=PaymentRead,
    responses=problems(403, 404, 409),
    summary="Pay for an order",
)
async def pay_for_order(
    order_id: UUID, wanted: PaymentCreate, user: OrdersWriter, session: Session, provider: Payments
) -> Payment:
    """For an order that is `pending`, or whose last payment was declined.

    The answer comes within some seconds; a payment that is `unsure` then is asked about until the
    provider has answered. One that was sent twice is made once: the second is refused (409).
    """
    return await orders.pay(session, provider, user, order_id, wanted.payment_method_id)


@router.get(
    "",
    response_model=list[PaymentRead],
    responses=problems(403, 404),
    summary="List the payments of an order",
)
async def list_payments(order_id: UUID, user: OrdersReader, session: Session) -> Sequence[Payment]:
    """Return them, the latest first: one that was declined says why."""
    return await orders.list_payments(session, user, order_id)
