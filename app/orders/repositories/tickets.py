"""SQL for tickets."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from sqlalchemy import delete, func
from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.access import Principal, Role
from orders.models import Ticket, User


async def add(
    session: AsyncSession,
    ticket_hash: bytes,
    user_id: UUID,
    token_version: int,
    lifetime: timedelta,
) -> None:
    """Insert a ticket."""
    session.add(
        Ticket(
            ticket_hash=ticket_hash,
            user_id=user_id,
            token_version=token_version,
            expires_at=func.now() + lifetime,
        )
    )
    await session.flush()


async def take(session: AsyncSession, ticket_hash: bytes) -> Principal | None:
    """Use a ticket up; ``None`` if it is not good.

    One statement: of two who hold it, the second waits for the first and finds nothing.
    """
    query = (
        delete(Ticket)
        .where(
            Ticket.ticket_hash == ticket_hash,
            Ticket.expires_at > func.now(),
            User.id == Ticket.user_id,
            User.is_active,
            User.token_version == Ticket.token_version,
        )
        .returning(User.id, User.role, User.token_version)
        .execution_options(synchronize_session=False)
    )
    row = (await session.execute(query)).one_or_none()
    return Principal(row[0], Role(row[1]), token_version=row[2]) if row else None
