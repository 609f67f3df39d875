"""The password of who asks, asked for again: a token that was stolen must not lead any further."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.database import transaction
from orders.core.errors import ForbiddenError, TooOftenError
from orders.core.passwords import Passwords
from orders.core.rate_counts import RateCounts
from orders.core.rates import Rate
from orders.repositories import users


@dataclass(frozen=True, slots=True)
class OwnPassword:
    """Asks for it, in one request."""

    session: AsyncSession
    passwords: Passwords
    counts: RateCounts
    rate: Rate | None
    """How often a user may try; ``None`` for no limit."""

    async def confirm(self, user_id: UUID, password: str) -> None:
        """Pass if it is the user's.

        Raises:
            TooOftenError: it was tried too often, whatever it is now.
            ForbiddenError: it is another one, or the user has gone.
            BusyError: too many passwords are being hashed.
        """
        if self.rate:
            standing = await self.counts.hit("login", self.rate, f"user:{user_id}")
            if not standing.allowed:
                raise TooOftenError(f"more than {self.rate} tries of a password", standing.reset)
        async with transaction(self.session):
            user = await users.get(self.session, user_id)
        right, _ = await self.passwords.verify(password, user.password_hash if user else None)
        if not right:
            raise ForbiddenError("current_password is not your password")
