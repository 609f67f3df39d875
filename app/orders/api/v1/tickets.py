"""``/api/v1/tickets``."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter

from orders.api.deps import CurrentUser, Session
from orders.core.openapi import problems
from orders.schemas.event import TicketRead
from orders.services import tickets

router = APIRouter(prefix="/tickets", tags=["events"])


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    response_model=TicketRead,
    responses=problems(403),
    summary="Get a ticket for a WebSocket",
)
async def create_ticket(user: CurrentUser, session: Session) -> TicketRead:
    """Return what opens one WebSocket of yours at `/api/v1/ws`, once and within 30 seconds."""
    ticket = await tickets.issue(session, user)
    return TicketRead(ticket=ticket, expires_in=int(tickets.LIFETIME.total_seconds()))
