"""The rules of signing in.

An access token is signed and short-lived. A refresh token is random, not a JWT: whether it is good
is a matter of the database at every use, so a signature would prove nothing more; it survives a
change of keys; and it can never be mistaken for an access token.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.access import Principal, Role
from orders.core.database import transaction
from orders.core.errors import InvalidTokenError, UnauthenticatedError
from orders.core.opaque import hash_secret, new_secret
from orders.core.passwords import Passwords
from orders.core.tokens import Tokens
from orders.models import User
from orders.repositories import refresh_tokens, users
from orders.schemas.user import UserCreate

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a client holds after it has signed in, or refreshed."""

    user_id: UUID
    access_token: str
    refresh_token: str


@dataclass(frozen=True, slots=True)
class Auth:
    """Signing in, for one request."""

    session: AsyncSession
    passwords: Passwords
    tokens: Tokens
    refresh_lifetime: timedelta

    async def register(self, wanted: UserCreate) -> User:
        """Store a new user; an address that is taken is refused by the database (409).

        Raises:
            BusyError: too many passwords are being hashed.
        """
        hashed = await self.passwords.hash(wanted.password)
        user = User(email=wanted.email, name=wanted.name, password_hash=hashed)
        async with transaction(self.session):
            await users.add(self.session, user)
        return user

    async def login(self, email: str, password: str) -> Grant:
        """Begin a family of refresh tokens.

        Raises:
            UnauthenticatedError: there is no such active user with that password; which of these
                it is stays unsaid, and takes equally long.
            BusyError: too many passwords are being hashed.
        """
        async with transaction(self.session):
            user = await users.get_by_email(self.session, email)
        right, newer = await self.passwords.verify(password, user.password_hash if user else None)
        if user is None or not right or not user.is_active:
            raise UnauthenticatedError("there is no active user with this e-mail and password")
        async with transaction(self.session):
            if newer:
                await users.change(self.session, user.id, {"password_hash": newer})
            # At the version that the password was checked at: a login that overlaps with a change
            # of the password, a deactivation or a logout everywhere gives nothing of use.
            family = await refresh_tokens.add_family(self.session, user.id, user.token_version)
            refresh_token = await self._add_to(family)
        return self._grant(user.id, Role(user.role), user.token_version, refresh_token)

    async def refresh(self, refresh_token: str) -> Grant:
        """Take a refresh token in exchange for the next one of its family.

        Raises:
            InvalidTokenError: it is not good; if it was used before, one of two who hold it has
                stolen it, and its whole family is revoked.
        """
        hashed = hash_secret(refresh_token)
        robbed: UUID | None = None
        next_token = ""
        async with transaction(self.session):
            taken = await refresh_tokens.take(self.session, hashed)
            if taken:
                next_token = await self._add_to(taken.family_id)
            elif family := await refresh_tokens.family_of_used(self.session, hashed):
                robbed = await refresh_tokens.revoke_family(self.session, family)
        # Only now: the revocation stays, though the answer is an error.
        if robbed:
            log.warning(
                "a refresh token was used twice: its family is revoked", extra={"owner": robbed}
            )
        if taken is None:
            raise InvalidTokenError("the refresh token is not valid (any more); sign in again")
        return self._grant(taken.user_id, taken.role, taken.token_version, next_token)

    async def logout(self, refresh_token: str) -> None:
        """Revoke the family of a refresh token; one that is unknown changes nothing."""
        async with transaction(self.session):
            family = await refresh_tokens.family_of(self.session, hash_secret(refresh_token))
            if family:
                await refresh_tokens.revoke_family(self.session, family)

    async def logout_everywhere(self, principal: Principal) -> None:
        """Refuse every token of the user that was issued before, at once."""
        async with transaction(self.session):
            await users.change(self.session, principal.user_id, {}, revoke=True)

    async def _add_to(self, family: UUID) -> str:
        token = new_secret()
        await refresh_tokens.add(self.session, hash_secret(token), family, self.refresh_lifetime)
        return token

    def _grant(self, user_id: UUID, role: Role, version: int, refresh_token: str) -> Grant:
        return Grant(user_id, self.tokens.issue(user_id, role, version), refresh_token)
