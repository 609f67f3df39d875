"""``/api/v1/orders/export.csv``."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Response

from orders.api.deps import Exports, OrdersReader, Session
from orders.api.pushed import PushedResponse
from orders.core.file_names import attachment
from orders.core.openapi import problems
from orders.services import order_export

router = APIRouter(prefix="/orders", tags=["orders"])


@router.get(
    "/export.csv",
    response_class=Response,
    responses={
        200: {"content": {"text/csv": {"schema": {"type": "string"}}}},
        **problems(403),
    },
    summary="Export your orders",
)
async def export_orders(user: OrdersReader, session: Session, exports: Exports) -> Response:
    """CSV, the oldest first: your orders, or, to an admin, everybody's. No cell is a formula."""
    await order_export.release(session)
    return PushedResponse(
        partial(order_export.write, exports, user),
        media_type="text/csv",
        headers={"Content-Disposition": attachment("orders.csv")},
    )
