"""The rules about API keys: a user gives them to machines, and takes them back."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from orders.core import opaque
from orders.core.access import Principal
from orders.core.database import transaction
from orders.core.errors import NotFoundError
from orders.models import ApiKey
from orders.repositories import api_keys
from orders.schemas.api_key import ApiKeyCreate
from orders.services.own_password import OwnPassword


async def create(
    session: AsyncSession, own_password: OwnPassword, principal: Principal, wanted: ApiKeyCreate
) -> tuple[ApiKey, str]:
    """Make a key for the principal; return it with the text that nobody sees again.

    It outlives the session that it was made in, and so takes the password once more.

    Raises:
        ForbiddenError: the password is wrong.
        TooOftenError: it was tried too often.
        BusyError: too many passwords are being hashed.
    """
    await own_password.confirm(principal.user_id, wanted.current_password)
    key = opaque.ApiKey.new()
    stored = ApiKey(
        user_id=principal.user_id,
        name=wanted.name,
        prefix=key.prefix,
        key_hash=opaque.hash_secret(key.secret),
        scopes=sorted(wanted.scopes),
        expires_at=wanted.expires_at,
    )
    async with transaction(session):
        await api_keys.add(session, stored)
    return stored, str(key)


async def list_own(session: AsyncSession, principal: Principal) -> Sequence[ApiKey]:
    """Read the principal's keys, revoked ones too."""
    return await api_keys.list_of(session, principal.user_id)


async def revoke(session: AsyncSession, principal: Principal, key_id: UUID) -> None:
    """Refuse the key from now on.

    Raises:
        NotFoundError: there is none of that id that is the principal's to revoke.
    """
    async with transaction(session):
        key = await api_keys.get(session, key_id)
        if key is None or not principal.may_act_for(key.user_id):
            raise NotFoundError(f"there is no API key {key_id}")
        await api_keys.revoke(session, key_id)
