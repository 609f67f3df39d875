"""Tickets: what a browser, which can send no headers with a WebSocket, opens one with."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.access import Principal
from orders.core.database import transaction
from orders.core.errors import InvalidTokenError
from orders.core.opaque import hash_secret, new_secret
from orders.repositories import tickets

LIFETIME: Final = timedelta(seconds=30)


async def issue(session: AsyncSession, principal: Principal) -> str:
    """Make a ticket; only its hash is stored."""
    ticket = new_secret()
    async with transaction(session):
        await tickets.add(
            session, hash_secret(ticket), principal.user_id, principal.token_version, LIFETIME
        )
    return ticket


async def redeem(session: AsyncSession, ticket: str) -> Principal:
    """Use a ticket up; return whose it was.

    Raises:
        InvalidTokenError: it is unknown, used or too old, or its user has been signed out.
    """
    async with transaction(session):
        principal = await tickets.take(session, hash_secret(ticket))
    if principal is None:
        raise InvalidTokenError("the ticket is not valid (any more); ask for another one")
    return principal
