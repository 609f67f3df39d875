"""The first admin, made by whoever may run commands beside the service."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.access import Role
from orders.core.database import transaction
from orders.core.passwords import Passwords
from orders.models import User
from orders.repositories import users


async def admin(session: AsyncSession, passwords: Passwords, email: str, password: str) -> None:
    """Make the user of an address an active admin with this password.

    Whoever has it already is raised to that, and all their earlier tokens are refused.

    Raises:
        BusyError: too many passwords are being hashed.
    """
    changes = {
        "password_hash": await passwords.hash(password),
        "role": Role.ADMIN,
        "is_active": True,
    }
    async with transaction(session):
        known = await users.get_by_email(session, email)
        if known is None:
            await users.add(session, User(email=email, name="Admin", **changes))
        else:
            await users.change(session, known.id, changes, revoke=True)
